"""Whether the loss that is trained can teach the bandit anything."""

from __future__ import annotations

from laser_pl.batches import LOSS
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.signals.base import Signal
from laser_pl.messages.parts import called
from laser_pl.objectives.base import Objective


def what_is_wrong(signal: Signal, objective: Objective) -> str | None:
    """Why a signal carries nothing under an objective, for a warning; None if it does.

    Args:
        signal: What the bandit learns from.
        objective: What is minimised.

    Raises:
        ConfigurationError: If it is made of a part that the objective does not have, of pairs that it does not take, or
            does not measure what the objective needs.
    """
    if not objective.judged:  # and so nobody learns who judges well
        return None
    if signal.of_pairs and objective.needs != "pairs":
        raise ConfigurationError(
            f"selection.signal is {type(signal).__name__}, which looks at pairs, and model.objective"
            f" {objective} is trained on scores: there are none. Set selection.signal to"
            f" {_that_work(objective)}."
        )
    if objective.takes_accuracy and not signal.measures_accuracy:
        raise ConfigurationError(
            f"model.objective {objective} takes the reward models' pair accuracy as it is measured, and"
            f" selection.signal is {type(signal).__name__}, which measures none. Set selection.signal to"
            " laser_pl.feedback.signals.Trusted, or epsilon to a number."
        )
    if signal.part is None:
        return None
    if signal.part not in (LOSS, *objective.parts):
        raise ConfigurationError(
            f"selection.signal is {type(signal).__name__}, and the loss that model.objective"
            f" {objective} trains has no part '{signal.part}'. It has"
            f" {' and '.join(objective.parts)}: set selection.signal to {_that_work(objective)}."
        )
    if objective.informs(signal.part):
        return None
    name = objective.parts[0] if signal.part == LOSS else signal.part
    first = "its first value is ln 2 whoever scored" if name == "dpo" else "its first value is the same whoever scored"
    told = "loss" if objective.needs == "scores" and signal.part == LOSS else f"{called(name)} loss alone"
    return (
        f"The bandit learns from the {told}, which says nothing"
        f" about which reward model is right: {first}. Set selection.signal to {_that_work(objective)}."
    )


def _that_work(objective: Objective) -> str:
    """Signals that carry something under an objective, as advice."""
    if objective.informs(LOSS):
        return "laser_pl.feedback.signals.Loss, or another"
    if objective.needs == "scores":
        return "laser_pl.feedback.signals.FewAnswers, Cooling, Majority or Trusted"
    return (
        "laser_pl.feedback.signals.FewAnswers, Cooling, Nll or Trusted, or train with an nll_weight > 0 and learn from"
        " the Loss"
    )
