"""Settings of Lightning's trainer that would do nothing in a run, or take away what makes it one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    DeviceStatsMonitor,
    LearningRateFinder,
    LearningRateMonitor,
    ModelPruning,
    ModelSummary,
)

from laser_pl.callbacks.reward_selection import RewardSelection
from laser_pl.errors import ConfigurationError

_LEFT_OUT: dict[str, tuple[Any, str]] = {
    "default_root_dir": (None, "does nothing here: a run's files lie in its own folder. Set --runs_dir and --name"),
    "use_distributed_sampler": (False, "does nothing here: each process knows which prompts are its own. Leave it out"),
    "sync_batchnorm": (False, "does nothing here: the base takes no statistics of batches. Leave it out"),
    "model_registry": (None, "does nothing here: `hf upload` publishes an adapter. Leave it out"),
    "overfit_batches": (
        0.0,
        "cannot repeat the same batches here: every iteration takes its own prompts. Set data.train to a file with a"
        " few, and data.prompts_per_iteration to as many",
    ),
    "barebones": (
        False,
        "would leave a run without record and checkpoint. To log nothing, set trainer.logger to false",
    ),
}
"""The value at which each does no harm, and what is said of others."""
_LEAST = {"check_val_every_n_epoch": 1, "accumulate_grad_batches": 1, "log_every_n_steps": 0, "gradient_clip_val": 0}


def refuse_settings(settings: Mapping[str, Any]) -> None:
    """Look through a trainer's settings before it is made.

    Args:
        settings: The section ``trainer``, with its callbacks made.

    Raises:
        ConfigurationError: If one does nothing in a run, or cannot be.
    """
    for name, (harmless, why) in _LEFT_OUT.items():
        if name in settings and settings[name] != harmless:
            raise ConfigurationError(f"trainer.{name} {why}.")
    if settings.get("enable_checkpointing") is False:
        raise ConfigurationError(
            "trainer.enable_checkpointing cannot be false: a run goes on from its checkpoint. --checkpoint_every says"
            " how often it is written within an iteration; it holds the adapter, not the base."
        )
    for name, least in _LEAST.items():
        value = settings.get(name)
        if value is not None and value < least:
            raise ConfigurationError(f"trainer.{name} must be >= {least}, got {value}. Set another, or leave it out.")
    if settings.get("gradient_clip_algorithm") is not None and not settings.get("gradient_clip_val"):
        raise ConfigurationError(
            "trainer.gradient_clip_algorithm does nothing without trainer.gradient_clip_val. Set that one, or leave"
            " both out."
        )
    _refuse_interval(settings.get("val_check_interval"))
    for callback in callbacks_of(settings):
        _refuse_callback(callback, logs=settings.get("logger") is not False)


def _refuse_interval(value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ConfigurationError(
            f"trainer.val_check_interval is {value}, and validation by the clock would make a resumed run another one."
            " Set it to a number of batches, or a fraction of an iteration."
        )
    if value is not None and value <= 0:
        raise ConfigurationError(
            f"trainer.val_check_interval must be > 0, got {value}. To validate nothing, set trainer.limit_val_batches"
            " to 0."
        )


def callbacks_of(settings: Mapping[str, Any]) -> list[Any]:
    """The callbacks of a trainer's settings, which may be one or none."""
    callbacks = settings.get("callbacks")
    return callbacks if isinstance(callbacks, list) else [callbacks]


def _refuse_callback(callback: Any, logs: bool) -> None:
    if isinstance(callback, RewardSelection):
        raise ConfigurationError(
            "trainer.callbacks holds a RewardSelection, but the run has one already. Configure that one, in the section"
            " selection, and leave trainer.callbacks for callbacks of your own."
        )
    if isinstance(callback, BatchSizeFinder | LearningRateFinder):
        instead = (
            "model.tokens_per_forward bounds the memory of a step, whatever data.batch_size is"
            if isinstance(callback, BatchSizeFinder)
            else "Compare short runs of several optimizer.init_args.lr"
        )
        raise ConfigurationError(
            f"{type(callback).__name__} would train on responses that nobody has judged yet, before the run begins."
            f" Take it out of trainer.callbacks. {instead}."
        )
    if isinstance(callback, ModelSummary) and callback._max_depth < -1:
        raise ConfigurationError(
            f"The max_depth of {type(callback).__name__} must be >= -1, got {callback._max_depth}. Set another."
        )
    if isinstance(callback, LearningRateMonitor | DeviceStatsMonitor) and not logs:
        raise ConfigurationError(
            f"{type(callback).__name__} has nowhere to log, since trainer.logger is false. Take one of the two out."
        )
    if isinstance(callback, BackboneFinetuning | ModelPruning):
        raise ConfigurationError(
            f"{type(callback).__name__} changes which weights are trained, and here that is the adapter alone. Take it"
            " out of trainer.callbacks, and set model.lora.targets."
        )
