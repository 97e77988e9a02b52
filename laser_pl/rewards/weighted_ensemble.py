"""An ensemble with a weight for each member."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.ensemble import Ensemble, standardised


class WeightedEnsemble(Ensemble):
    r"""The weighted mean of the members' standardised scores.

    A score is :math:`\sum_k w_k z_k / \sum_k |w_k|`. Each member is normalised before they are summed, as in GDPO (Liu
    et al. 2026), so that none rules by the size of its scores, and weights say what they seem to. A departure: GDPO
    divides the sum by its deviation over the batch; that is left to the objective, since pairs do not see it.
    ``OnlineEnsemble`` learns its weights from the bandit's feedback.

    Args:
        reward_models: The members, by name.
        weights: Of each member, by its name; below 0, what it likes is bad. Null: all alike.
        final_weights: Where they move to, in equal steps over ``over_steps`` training steps; null: they stay.
        over_steps: How many, >= 1 with ``final_weights``.
        within: Where a member's scores get mean 0 and deviation 1: in a prompt, or in a batch. ``prompt``: among the
            responses to one; ``batch``: over all, where a member whose scores of a prompt hardly differ has little say
            on it. The batch is what one process asks about at once, so that scores then depend on how many there are,
            and on ``granularity``.
    """

    def __init__(
        self,
        reward_models: dict[str, RewardModel],
        weights: dict[str, float] | None = None,
        final_weights: dict[str, float] | None = None,
        over_steps: int = 0,
        within: Literal["prompt", "batch"] = "prompt",
    ) -> None:
        super().__init__(reward_models)
        self.first = _weights("weights", weights or dict.fromkeys(reward_models, 1.0), list(reward_models))
        last = None if final_weights is None else _weights("final_weights", final_weights, list(reward_models))
        if (last is None) != (over_steps == 0) or over_steps < 0:
            raise ConfigurationError(
                "final_weights need over_steps >= 1, and over_steps need final_weights; got over_steps"
                f" {over_steps} and final_weights {final_weights}. Set both in the ensemble's config, or neither."
            )
        self.last = self.first if last is None else last
        self.over_steps = over_steps
        self.within = within
        self.steps = 0

    @property
    def weights(self) -> Tensor:
        """Of the members, at this step. Shape ``(E,)``, float64."""
        done = min(self.steps / self.over_steps, 1.0) if self.over_steps else 0.0
        return self.first + done * (self.last - self.first)

    @property
    def heard(self) -> list[bool]:
        """Those that have a weight at this step."""
        return [bool(weight) for weight in self.weights]

    def combine(self, scores: Tensor) -> Tensor:
        """Mean over members, by weight; a member without an opinion has none."""
        return weighted_mean(standardised(scores, self.within), self.weights)

    def learn(self, lessons: dict[int, Tensor]) -> None:
        """Count a training step."""
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """How many steps were trained, where weights move, and what members have learned."""
        return ({"steps": self.steps} if self.over_steps else {}) | super().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        self.steps = state.get("steps", 0)


def weighted_mean(scores: Tensor, weights: Tensor) -> Tensor:
    """Mean over members.

    Args:
        scores: NaN is no opinion. Shape ``(E, B, n)``.
        weights: Shape ``(E,)``.

    Returns:
        NaN where nobody who has a weight has an opinion. Shape ``(B, n)``.

    >>> weighted_mean(torch.tensor([[[1.0, 1.0]], [[4.0, torch.nan]]]), torch.tensor([1.0, 2.0]))
    tensor([[3., 1.]])
    """
    says = weights[:, None, None] * ~scores.isnan()
    return (says * scores.nan_to_num(0.0)).sum(0) / says.abs().sum(0)


def _weights(setting: str, given: Mapping[str, float], members: Sequence[str]) -> Tensor:
    wrong = sorted(set(given) ^ set(members))
    if wrong:
        raise ConfigurationError(
            f"{setting} must name every member of the ensemble, and nobody else: '{wrong[0]}' is"
            f" {'no member' if wrong[0] in given else 'left out'}. Its members are {', '.join(members)}."
        )
    bad = [name for name, weight in given.items() if not math.isfinite(weight)]
    if bad or not any(given.values()):
        found = f"{given[bad[0]]} for '{bad[0]}'" if bad else "zeros only"
        raise ConfigurationError(
            f"{setting} must be finite and not all 0, got {found}. Set them in the ensemble's config."
        )
    return torch.tensor([given[name] for name in members], dtype=torch.float64)
