"""What ``fit`` refuses before it begins, and ``plan`` as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from laser_pl.commands.monitored import logged_metrics, refuse_unknown_metric
from laser_pl.commands.planned_steps import planned_steps
from laser_pl.data.datamodule import PreferenceData
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.signals import Signal
from laser_pl.policy.policy import Policy
from laser_pl.selection.selector import Selector
from laser_pl.selection.teaching import what_is_wrong
from laser_pl.training.optimizers import check_optimizers, monitored


def connect(trainer: Trainer, policy: Policy, data: PreferenceData) -> None:
    """Let them know one another, as Lightning does when it begins, so that prompts can be read before."""
    trainer.strategy.connect(policy)
    policy.trainer = trainer
    data.trainer = trainer


def checks(trainer: Trainer, policy: Policy, data: PreferenceData, selector: Selector) -> Iterator[Callable[[], None]]:
    """Each raises a ConfigurationError where the run would end with it later, perhaps after hours.

    Args:
        trainer: The run's.
        policy: Connected to it, not loaded.
        data: With its prompts.
        selector: Chooses reward models, which are checked by ``Pool.check`` alone.
    """
    pool, signal = selector.pool, selector.signal
    yield lambda: policy.setup("fit")
    yield data.check_trainer
    yield lambda: _refuse_unlike(signal, policy)
    yield lambda: _refuse_late_checkpoints(trainer)
    if not data.prompts:  # out of plan's reach
        yield lambda: check_optimizers(policy.optimizer, policy.lr_scheduler)
        return
    yield lambda: _check_monitored(trainer, policy, data, list(pool.reward_models))
    yield lambda: _refuse_rare_validation(trainer, data)
    if any(prompt.answer is not None for prompts in data.prompts.values() for prompt in prompts):
        yield lambda: policy.matcher.check(data.categories)
    if policy.objective.judged:
        yield data.check_engine
        asked = sorted({prompt.category for prompt in data.prompts["train"]})
        yield lambda: signal.check(asked)
        if data.one_category_per_batch or selector.granularity in ("category", "prompt"):  # others may be mixed
            yield lambda: selector.bandit.check_categories(asked)
        yield lambda: selector.compared.read(data.prompts["train"], policy.matcher)
        for reward_model in pool.reward_models.values():
            yield lambda model=reward_model: model.check_categories(asked)  # type: ignore[misc]


def _check_monitored(trainer: Trainer, policy: Policy, data: PreferenceData, arms: list[str]) -> None:
    """See that optimizer and schedule are right, and that each metric that anything waits for will be there."""
    check_optimizers(policy.optimizer, policy.lr_scheduler, lambda: planned_steps(trainer, data))
    waits = {"lr_scheduler.init_args.monitor": monitored(policy.lr_scheduler)}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.strict:
            waits[f"The monitor of {type(callback).__name__}"] = callback.monitor
            _refuse_unmeasured(trainer, callback)
        if isinstance(callback, ModelCheckpoint) and callback.monitor not in {"step", "epoch"}:
            waits[f"The monitor of {type(callback).__name__}"] = callback.monitor
    logged = logged_metrics(trainer, policy, data, arms)
    for who, metric in waits.items():
        if metric is not None:
            refuse_unknown_metric(metric, who, logged)


def _refuse_unlike(signal: Signal, policy: Policy) -> None:
    """See that the signal is not made of what the objective has not; what is only useless is warned about later."""
    what_is_wrong(signal, policy.objective)


def _refuse_late_checkpoints(trainer: Trainer) -> None:
    if isinstance(trainer.strategy.checkpoint_io, AsyncCheckpointIO):
        raise ConfigurationError(
            "AsyncCheckpointIO writes a checkpoint when the run has moved on, and ours have to be whole before they"
            " take the last one's place. Take it out of trainer.plugins."
        )


def _refuse_unmeasured(trainer: Trainer, callback: EarlyStopping) -> None:
    asks = callback._check_on_train_epoch_end and callback.monitor.startswith("validation/")
    if asks and trainer.check_val_every_n_epoch != 1:
        raise ConfigurationError(
            f"{type(callback).__name__} looks at '{callback.monitor}' at the end of every iteration, and not every"
            " iteration is validated. Set check_on_train_epoch_end to false, or trainer.check_val_every_n_epoch to 1."
        )


def _refuse_rare_validation(trainer: Trainer, data: PreferenceData) -> None:
    every, batches = trainer.val_check_interval, len(data.plan(0))
    within = trainer.check_val_every_n_epoch is not None and isinstance(every, int)
    if within and every > batches and data.prompts["validation"]:
        raise ConfigurationError(
            f"trainer.val_check_interval is {every}, and an iteration has {batches} batches. Lower it, or set"
            " trainer.check_val_every_n_epoch to null to count batches through all iterations."
        )
