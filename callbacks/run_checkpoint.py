"""Checkpoints to continue an interrupted run from."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from callbacks.reward_selection import RewardSelection
from laser_pl.errors import ConfigurationError
from laser_pl.run_folder import RunFolder


class RunCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt``: adapter, optimizer, bandit and cursor, never the frozen base.

    It is written at the end of every iteration, and within one every ``every`` batches. Lightning's
    ``ModelCheckpoint`` does one or the other, and not under a name that is replaced atomically; add it to
    ``trainer.callbacks`` to keep the best by some metric.

    When no reward model is left that can judge, it saves once more and ends the run.

    Args:
        folder: The run's folder.
        every: Batches between checkpoints within an iteration.
        selection: Says when that is so.
    """

    def __init__(self, folder: RunFolder, every: int, selection: RewardSelection) -> None:
        if every < 1:
            raise ConfigurationError(f"checkpoint_every must be >= 1, got {every}. Set --checkpoint_every.")
        self.folder = folder
        self.every = every
        self.selection = selection

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an iteration, between optimizer steps; its last batch is left to the iteration's end."""
        done = batch_idx + 1
        between_steps = done % trainer.accumulate_grad_batches == 0
        stuck = self.selection.stuck is not None
        if (stuck or done % self.every == 0) and between_steps and done < trainer.num_training_batches:
            self.save(trainer)
            self._end_if_stuck()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the iteration's end, after validation."""
        self.save(trainer)
        self._end_if_stuck()

    def _end_if_stuck(self) -> None:
        if self.selection.stuck is not None:
            raise ConfigurationError(
                f"{self.selection.stuck} What was trained is in {self.folder.checkpoint}: mend the reward models and go"
                " on with --resume."
            )

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint beside the last one, then take its place. Metrics so far are written first."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for logger in trainer.loggers:
            logger.save()
        self.folder.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.folder.checkpoint.with_suffix(".tmp")
        trainer.save_checkpoint(temporary, weights_only=False)
        if trainer.is_global_zero:
            temporary.replace(self.folder.checkpoint)
