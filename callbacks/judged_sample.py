"""A few judged prompts of every iteration, whole, for people to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from laser_pl.batches import LabelledBatch, RolloutBatch
from laser_pl.callbacks.run_record import RunRecord
from laser_pl.data.loaders import RolloutLoader
from laser_pl.policy.policy import Policy
from laser_pl.run.files import append_lines
from laser_pl.run.folder import RunFolder, keep_steps_before
from laser_pl.run.judged_record import judged_line
from laser_pl.runtime.seeds import derive_seed
from laser_pl.selection.selector import Selector

ROWS = 240
"""Prompts of a run that are kept: a page of them still opens on a telephone."""
ROWS_OF_ITERATION = 60
"""Of one iteration, so that a short run's page is not made of its first one."""


class JudgedSample(Callback):
    """Writes ``judged.jsonl``: prompt, responses, scores, pairs and judge of some prompts of every iteration.

    Which ones follows from the seed and the iteration alone. On resume, lines past the checkpoint are dropped.

    Args:
        folder: The run's folder.
        selector: Whose judgements are kept; it must come before this callback in the trainer's list.
        record: Counts the steps; it must come before this callback as well.
    """

    def __init__(self, folder: RunFolder, selector: Selector, record: RunRecord) -> None:
        self.folder = folder
        self.selector = selector
        self.record = record
        self._iteration = -1
        self._places: set[tuple[int, int]] = set()  # batch and row

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a resume, keep what was written up to the checkpoint and drop the rest."""
        if trainer.is_global_zero:
            keep_steps_before(self.record.steps, self.folder.judged)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RolloutBatch, batch_idx: int
    ) -> None:
        """Write those prompts of the batch that were chosen beforehand."""
        if not trainer.is_global_zero or not isinstance(batch, LabelledBatch):  # written responses have no judge
            return
        if batch.iteration != self._iteration:
            loader = trainer.train_dataloader
            assert isinstance(loader, RolloutLoader)
            sizes = [len(one) for one in loader.batches]
            count = rows_of_iteration(batch.iteration, trainer.max_epochs)
            self._iteration, self._places = batch.iteration, places(sizes, count, self.selector.seed, batch.iteration)
        rows = [row for row in range(len(batch)) if (batch_idx, row) in self._places]
        if rows:
            assert isinstance(pl_module, Policy)
            step = self.record.steps - 1  # which has counted this one
            told = self.selector.arms, self.selector.polled, pl_module.matcher.is_right
            append_lines(self.folder.judged, (judged_line(batch, row, step, *told) for row in rows))


def rows_of_iteration(iteration: int, iterations: int | None) -> int:
    """How many prompts an iteration keeps, so that a run keeps ``ROWS`` at most.

    Args:
        iteration: Counted from 0.
        iterations: Of the whole run; None and -1 are a run without an end.

    >>> [rows_of_iteration(0, iterations) for iterations in (1, 10, 100, 1000, -1)]
    [60, 24, 2, 1, 1]
    >>> sum(rows_of_iteration(iteration, 1000) for iteration in range(1000))
    200
    """
    if iterations is None or iterations < 1:
        return int(iteration < ROWS)
    if iterations > ROWS:
        return int(iteration % math.ceil(iterations / ROWS) == 0)
    return min(ROWS_OF_ITERATION, ROWS // iterations)


def places(sizes: Sequence[int], count: int, seed: int, iteration: int) -> set[tuple[int, int]]:
    """Batch and row of the prompts that an iteration keeps: those with the lowest hashes.

    Args:
        sizes: Prompts in each batch.
        count: How many are kept.
        seed: Root of the choice.
        iteration: Counted from 0.

    >>> len(places([2, 3], 4, seed=0, iteration=0)), len(places([2, 3], 9, seed=0, iteration=0))
    (4, 5)
    """
    every = [(batch, row) for batch, size in enumerate(sizes) for row in range(size)]
    return set(sorted(every, key=lambda place: derive_seed(seed, "judged", iteration, *place))[:count])
