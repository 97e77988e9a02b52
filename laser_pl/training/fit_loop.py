"""Lightning's loops over iterations and batches, with places between them where a run can be saved.

Lightning saves in hooks, before all that follows them: the validation that is due at that batch, the step of a schedule
that waits for a metric, what is logged. A checkpoint that is written there says that these have happened. Ours is
written where nothing is under way, so that who goes on from it has nothing to guess.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer import call

from laser_pl.training.logged import load_logged, logged_so_far


class Keeper(Protocol):
    """Is called when nothing is under way."""

    def batch_over(self, trainer: Trainer) -> None:
        """A batch that is not its iteration's last, with its validation and all else that belongs to it."""

    def iteration_over(self, trainer: Trainer) -> None:
        """An iteration that another one follows."""

    def training_over(self, trainer: Trainer) -> None:
        """All of training."""


class FitLoop(_FitLoop):
    """Lightning's, which calls a keeper when nothing is under way.

    When a run goes on, callbacks are asked once more for the start of the iteration that began last, for what they set
    there and no checkpoint holds. They have the state then that they had there, and nothing is logged, since it was.
    Afterwards they, the optimizer and its schedule get the checkpoint's.

    Args:
        trainer: Whose loop it replaces.
        keeper: It.
        own: Callbacks whose effect is all in their state, so that they need not be asked.
        stays_stopped: Whether training that was asked to stop, as by ``EarlyStopping``, stays so when it goes on.
    """

    def __init__(self, trainer: Trainer, keeper: Keeper, own: Collection[Callback], stays_stopped: bool) -> None:
        replaced = trainer.fit_loop
        super().__init__(trainer, replaced.min_epochs, replaced.max_epochs)
        self.epoch_loop = EpochLoop(trainer, replaced.epoch_loop.min_steps, replaced.epoch_loop.max_steps)
        self.keeper = keeper
        self.own = own
        self.stays_stopped = stays_stopped
        self.went_on: dict[str, Any] = {}  # the checkpoint, until the first iteration after it is under way
        self._between = False
        self._at_start: dict[str, Any] = {}  # callbacks' states when the iteration began

    @contextmanager
    def between(self) -> Iterator[None]:
        """A block in which nothing is under way."""
        self._between = True
        try:
            yield
        finally:
            self._between = False

    def on_advance_start(self) -> None:
        """Begin an iteration, or go on within it."""
        checkpoint, self.went_on = self.went_on, {}
        within = bool(checkpoint) and self.restarted_mid_epoch
        if checkpoint:
            self._start_again(checkpoint, within)
            self._restarting = self.epoch_loop.restarting = False  # Lightning need not guess what was under way
            self.epoch_loop.goes_on = within
        if not within:
            self._at_start = {one.state_key: copy.deepcopy(one.state_dict()) for one in self._others()}
        super().on_advance_start()
        if within:
            load_logged(self.trainer, checkpoint["loops"]["fit_loop"]["state_dict"]["logged"], of_iteration=True)

    def on_advance_end(self) -> None:
        """End an iteration."""
        super().on_advance_end()
        if not self.done:
            with self.between():
                self.keeper.iteration_over(self.trainer)

    def on_run_end(self) -> None:
        """End training."""
        super().on_run_end()
        with self.between():
            self.keeper.training_over(self.trainer)

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Lightning's, and what it leaves out of what a trainer knows."""
        return super().on_save_checkpoint() | {
            "between": self._between,
            "should_stop": self.trainer.should_stop,
            "at_start": self._at_start,
            "logged": logged_so_far(self.trainer),
        }

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        super().on_load_checkpoint(state_dict)
        if not state_dict.get("between", False):
            return  # from a hook, as ModelCheckpoint writes them: Lightning knows best where
        self.went_on = self.trainer._checkpoint_connector._loaded_checkpoint
        self.trainer.should_stop = self.stays_stopped and state_dict["should_stop"]
        self._at_start = state_dict["at_start"]
        load_logged(self.trainer, state_dict["logged"], of_iteration=False)

    def _others(self) -> list[Callback]:
        """Those that do something when an iteration starts, and are not ours."""
        does_nothing = Callback.on_train_epoch_start
        return [
            one
            for one in self.trainer.callbacks  # type: ignore[attr-defined]
            if one not in self.own and getattr(one.on_train_epoch_start, "__func__", None) is not does_nothing
        ]

    def _start_again(self, checkpoint: dict[str, Any], within: bool) -> None:
        trainer: Any = self.trainer
        # As they were taken up, and not the checkpoint's, from which CyclicLR has taken what it has taken up.
        schedules = copy.deepcopy([config.scheduler.state_dict() for config in trainer.lr_scheduler_configs])
        callbacks, loggers, progress = trainer.callbacks, trainer.loggers, self.epoch_progress.current
        trainer.callbacks, trainer.loggers = self._others(), []
        progress.completed -= 0 if within else 1
        try:
            call._call_callbacks_load_state_dict(trainer, {**checkpoint, "callbacks": self._at_start})
            call._call_callback_hooks(trainer, "on_train_epoch_start")
            call._call_callbacks_load_state_dict(trainer, checkpoint)
        finally:
            trainer.callbacks, trainer.loggers = callbacks, loggers
            progress.completed += 0 if within else 1
        self.epoch_loop._results.clear()  # what they logged, which is of another iteration, or in the checkpoint
        trainer._logger_connector._current_fx = None
        trainer.strategy.load_optimizer_state_dict(checkpoint)
        for config, state in zip(trainer.lr_scheduler_configs, schedules, strict=True):
            config.scheduler.load_state_dict(state)


class EpochLoop(_TrainingEpochLoop):
    """Lightning's loop over an iteration's batches, which calls the keeper when one is over."""

    goes_on = False

    def reset(self) -> None:
        """Begin at the first batch, unless the run goes on within the iteration."""
        if not self.goes_on:
            super().reset()
        self.goes_on = False

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """End a batch."""
        super().on_advance_end(data_fetcher)
        fit_loop = self.trainer.fit_loop
        assert isinstance(fit_loop, FitLoop)
        if not self.done:
            with fit_loop.between():
                fit_loop.keeper.batch_over(self.trainer)
