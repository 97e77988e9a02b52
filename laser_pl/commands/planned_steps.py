"""How many steps a run will have, without asking for its first batch as Lightning would."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from laser_pl.data.datamodule import PreferenceData


def planned_steps(trainer: Trainer, data: PreferenceData) -> int | None:
    """Optimizer steps, if nothing ends training before; None where only the clock or a metric does.

    Args:
        trainer: The run's.
        data: With its prompts.
    """
    limit, last = trainer.max_steps, trainer.max_epochs
    if last is None and limit == -1:
        return None
    if last is None or last == -1:
        return limit if limit != -1 else None
    steps = 0
    for iteration in range(last):
        batches = _limited(len(data.plan(iteration)), trainer.limit_train_batches)
        steps += math.ceil(batches / _accumulated(trainer, iteration))
        if 0 <= limit <= steps:
            return limit
    return steps


def _limited(batches: int, limit: float | int | None) -> int:
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _accumulated(trainer: Trainer, iteration: int) -> int:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler):
            return callback.get_accumulate_grad_batches(iteration)
    return trainer.accumulate_grad_batches
