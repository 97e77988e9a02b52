"""Which metrics a run logs, so that whoever waits for another one knows before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Trainer

from laser_pl.data.datamodule import PreferenceData
from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps
from laser_pl.policy.evaluation import MAJORITY_FROM
from laser_pl.policy.policy import Policy

_OF_BATCHES = ("train/response_length", "train/truncated", "tokens/prompts", "tokens/responses")


def logged_metrics(trainer: Trainer, policy: Policy, data: PreferenceData, arms: Sequence[str]) -> list[str] | None:
    """Names of what is logged in training and validation; None where callbacks or a policy of the user's may log more.

    Args:
        trainer: The run's.
        policy: Connected to it.
        data: With its prompts.
        arms: The reward models.
    """
    known = ("lightning.", "laser_pl.")
    if not all(type(one).__module__.startswith(known) for one in (policy, *trainer.callbacks)):  # type: ignore[attr-defined]
        return None
    names = [*_OF_BATCHES, *policy.of_labels]
    if policy.objective.judged:
        names += ["seconds/scoring", *(f"selection/{arm}" for arm in arms)]
        names += [f"bandit/{part}/{arm}" for part in ("mean", "bonus") for arm in arms]
    if trainer.limit_val_batches and data.graded("validation"):
        kinds = ["greedy", "sampled", *(["majority"] if policy.evaluation.n >= MAJORITY_FROM else [])]
        of = ["average", *data.categories]
        names += [f"validation/accuracy/{kind}/{category}" for kind in kinds for category in of]
    return names


def refuse_unknown_metric(metric: str, who: str, logged: Sequence[str] | None) -> None:
    """See that a metric will be there.

    Args:
        metric: Its name.
        who: Waits for it, as a setting.
        logged: What is logged; None where that is not known.

    Raises:
        ConfigurationError: If it will not.
    """
    if logged is None or metric in logged or metric.startswith("lr-"):  # which LearningRateMonitor adds
        return
    example = next((name for name in logged if name.endswith("sampled/average")), "train/loss")
    advice = f"Name one that is, as '{example}'."
    raise ConfigurationError(
        f"{who} is '{metric}', and no such metric is logged.{perhaps(closest(metric, logged), advice)}"
    )
