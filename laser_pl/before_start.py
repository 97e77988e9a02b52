"""What ``fit`` refuses before it begins, and ``plan`` as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lightning.pytorch import Trainer

from laser_pl.data.datamodule import PreferenceData
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.signals import Signal
from laser_pl.policy import Policy
from laser_pl.rewards.pool import Pool
from laser_pl.training.optimizers import check_optimizers


def connect(trainer: Trainer, policy: Policy, data: PreferenceData) -> None:
    """Let them know one another, as Lightning does when it begins, so that prompts can be read before."""
    trainer.strategy.connect(policy)
    policy.trainer = trainer
    data.trainer = trainer


def checks(
    trainer: Trainer, policy: Policy, data: PreferenceData, pool: Pool, signal: Signal
) -> Iterator[Callable[[], None]]:
    """Each raises a ConfigurationError where the run would end with it later, perhaps after hours.

    Args:
        trainer: The run's.
        policy: Connected to it, not loaded.
        data: With its prompts.
        pool: The reward models, which are checked by ``Pool.check`` alone.
        signal: What the bandit learns from.
    """
    yield lambda: policy.setup("fit")
    yield data.check_trainer
    yield lambda: check_optimizers(policy.optimizer, policy.lr_scheduler)
    if not data.prompts:  # out of plan's reach
        return
    yield lambda: _refuse_rare_validation(trainer, data)
    if any(prompt.answer is not None for prompts in data.prompts.values() for prompt in prompts):
        yield lambda: policy.matcher.check(data.categories)
    if not policy.supervised:
        asked = sorted({prompt.category for prompt in data.prompts["train"]})
        yield lambda: signal.check(asked)
        for reward_model in pool.reward_models.values():
            yield lambda model=reward_model: model.check_categories(asked)  # type: ignore[misc]


def _refuse_rare_validation(trainer: Trainer, data: PreferenceData) -> None:
    every, batches = trainer.val_check_interval, len(data.plan(0))
    within = trainer.check_val_every_n_epoch is not None and isinstance(every, int)
    if within and every > batches and data.prompts["validation"]:
        raise ConfigurationError(
            f"trainer.val_check_interval is {every}, and an iteration has {batches} batches. Lower it, or set"
            " trainer.check_val_every_n_epoch to null to count batches through all iterations."
        )
