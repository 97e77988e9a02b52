"""What a trainer's strategy and precision ask of a training step; None is no trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from laser_pl.runtime.sharded_strategy import ShardedStrategy


def differentiates_at_once(trainer: Trainer | None) -> bool:
    """Whether a group's gradients may be taken inside ``training_step``.

    Other strategies may do something of their own in the backward pass of the whole step. There, activations are
    computed again in that backward pass instead.
    """
    return trainer is None or isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy, ShardedStrategy))


def scaler_of(trainer: Trainer | None) -> Any:
    """Float16's loss scaler, where there is one."""
    plugin = None if trainer is None else trainer.precision_plugin
    return plugin.scaler if isinstance(plugin, MixedPrecision) else None


def loss_scale(trainer: Trainer | None) -> float:
    """What float16 needs so that small gradients do not vanish."""
    scaler = scaler_of(trainer)
    return 1.0 if scaler is None else float(scaler.get_scale())
