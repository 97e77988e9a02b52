"""Which objective a policy's settings name."""

from __future__ import annotations

import logging

from laser_pl.errors import ConfigurationError
from laser_pl.moved import renamed
from laser_pl.objectives.base import Objective
from laser_pl.objectives.dpo import Dpo
from laser_pl.objectives.frozen import Frozen
from laser_pl.objectives.pairs import above_0, at_least_0
from laser_pl.objectives.supervised import Supervised

log = logging.getLogger(__name__)


def objective_of(
    objective: Objective | None, beta: float, nll_weight: float, frozen: bool, supervised: bool
) -> Objective:
    """What is minimised.

    Args:
        objective: ``model.objective``.
        beta: DPO's where none is named.
        nll_weight: DPO's where none is named.
        frozen: Former name of ``Frozen``.
        supervised: Former name of ``Supervised``.

    Raises:
        ConfigurationError: If a number is out of range, or it would be frozen and supervised.
    """
    dpo = Dpo(above_0(beta, "beta", "model"), at_least_0(nll_weight, "nll_weight", "model"))
    if isinstance(objective, Frozen) and not objective.named:
        objective = Frozen(dpo)
    elif objective is not None and objective.judged and (beta, nll_weight) != (0.1, 1.0):
        # They may stand in a file that it is laid over.
        log.warning("model.beta %s and model.nll_weight %s are not used: %s has its own, in"
                    " model.objective.init_args.", beta, nll_weight, objective)  # fmt: skip
    found = objective or dpo
    if supervised and (frozen or not found.trains):
        raise ConfigurationError("A policy cannot be frozen and supervised. Set model.frozen or model.supervised.")
    if supervised:
        return _formerly("supervised", Supervised())
    return _formerly("frozen", Frozen(found)) if frozen else found


def _formerly(name: str, objective: Objective) -> Objective:
    path = f"laser_pl.objectives.{type(objective).__name__}"
    renamed(f"model.{name}: true", f"model.objective: {{class_path: {path}}}")
    return objective
