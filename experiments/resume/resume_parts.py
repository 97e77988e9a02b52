"""Reward functions and callbacks as users write them, for the runs of ``table.py``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


def shorter(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """Prefer short answers."""
    return [-float(len(completion)) for completion in completions]


def vowels(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """Prefer vowels."""
    return [
        float(sum(letter in "aeiou" for letter in completion)) + 0.01 * len(completion) for completion in completions
    ]


class Moments(Callback):
    """Copies what lies on the disk at the moments at which the resumed runs are to have been killed.

    Args:
        folder: Where the run writes all that it writes.
        copies: Where the copies go, each under its moment's name.
    """

    def __init__(self, folder: str, copies: str) -> None:
        self.folder, self.copies = Path(folder), Path(copies)

    def _copy(self, moment: str) -> None:
        if not (self.copies / moment).exists():
            shutil.copytree(self.folder, self.copies / moment)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """In the second iteration, a batch after its checkpoint."""
        if trainer.current_epoch == 1 and batch_idx == 2:
            self._copy("within an iteration")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """In the second iteration."""
        if trainer.current_epoch == 1:
            self._copy("in validation")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """When the second iteration has ended."""
        if trainer.current_epoch == 2:
            self._copy("at its end")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """When training is over."""
        if trainer.current_epoch > 0:
            self._copy("in the last test")


class ClipsLater(Callback):
    """Sets what the trainer does, by the iteration."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clip from the second on, and accumulate in it."""
        trainer.gradient_clip_val = 1e-3 if trainer.current_epoch >= 1 else None
        trainer.accumulate_grad_batches = 2 if trainer.current_epoch == 1 else 1


class CountsStarts(Callback):
    """Acts in every second iteration by a count that is its own."""

    def __init__(self) -> None:
        self.starts = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Train with another beta in every second iteration, and say how often it has started."""
        self.starts += 1
        pl_module.beta = 0.1 if self.starts % 2 == 0 else 1.0
        pl_module.log("starts", float(self.starts))

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"starts": self.starts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The count."""
        self.starts = state_dict["starts"]


class LowersRate(Callback):
    """Sets the optimizer's rate, by the iteration."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Halve it in each."""
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = 1e-3 * 0.5**trainer.current_epoch


class LogsMeans(Callback):
    """Logs numbers whose mean, sum, least and most over the iteration are what is wanted."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log something of this batch in all the ways there are."""
        value = outputs["loss"].detach() + batch_idx
        for reduce in ("mean", "sum", "min", "max"):
            pl_module.log(f"own/{reduce}", value, on_step=reduce == "mean", on_epoch=True, reduce_fx=reduce)
        if batch_idx % 2 == 1:
            pl_module.log("own/seldom", value, on_step=True)


class StopsItself(Callback):
    """Ends training in the middle of the second iteration."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask for it."""
        if trainer.current_epoch == 1 and batch_idx == 2:
            trainer.should_stop = True
