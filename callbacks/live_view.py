"""The run as it goes on, on a terminal or line by line."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from laser_pl.batches import RolloutBatch
from laser_pl.data.loaders import PromptLoader, RolloutLoader
from laser_pl.policy.policy import Policy
from laser_pl.run.folder import RunFolder
from laser_pl.runtime.processes import process_number
from laser_pl.runtime.progress import Task, listening
from laser_pl.selection.decision import decisions_of
from laser_pl.selection.selector import Selector
from laser_pl.view.lines import Lines
from laser_pl.view.screen import Screen
from laser_pl.view.state import State
from laser_pl.view.words import accuracy_in_words, iteration_in_words


class LiveView(Callback):
    """Shows phase, iteration, step, loss, accuracy, who judges, and how long what is under way will take.

    It only reads what the run knows, keeps nothing in checkpoints, and draws in a thread of its own, twice a second.
    Where standard error is no terminal it says a line for each phase and each result, and one a minute in between.

    It shows while its block runs, see ``showing``.

    Args:
        selector: Whose decisions are shown; it must come before this callback in the trainer's list.
        fits: Whether there is a run, tested before and after training.
        live: Whether to draw on a terminal.

    Attributes:
        state: What is shown.
    """

    def __init__(self, selector: Selector, fits: bool, live: bool) -> None:
        self.state = State()
        self.selector = selector
        self.fits = fits
        self._tests = "test before" if fits else "test"  # what the next test is called
        self._show = (Screen if live else Lines)(lambda: self.state)
        self._exits = ExitStack()
        self._fitting: Trainer | None = None
        self._set_aside: tuple[Task, ...] = ()  # while training is validated

    def __enter__(self) -> LiveView:
        self.state = replace(self.state, began=time.monotonic())
        self._exits.enter_context(listening(self))
        self._exits.callback(self._show.close)
        self._show.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exits.close()

    # -- what takes long, see `laser_pl.runtime.progress` --------------------------------------------------------------

    def begin(self, task: Task) -> None:
        """Something begins; what lies within nothing else is a phase of the run."""
        if self._fitting is not None:
            epochs = self._fitting.max_epochs
            of = epochs if epochs is not None and epochs > 0 else None
            self.state = replace(self.state, iteration=self._fitting.current_epoch + 1, iterations=of)
        self.state = self.state.begin(task)
        if len(self.state.tasks) == 1:
            self._show.begins(task)

    def advance(self, count: float) -> None:
        """It is further."""
        self.state = self.state.advance(count, time.monotonic())

    def end(self) -> None:
        """It ends."""
        self.state = self.state.end()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get to know the run's name."""
        if self.fits:
            self.state = replace(self.state, name=Path(trainer.default_root_dir).name)

    # -- training ----------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on the trainer's epoch is the iteration."""
        self._fitting = trainer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Within an iteration, where a run goes on, nothing else says that training begins."""
        assert isinstance(trainer.train_dataloader, RolloutLoader)
        if 0 < trainer.train_dataloader.served < len(trainer.train_dataloader):
            self._recall(trainer)
            self._begin_training(trainer, trainer.train_dataloader.served)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The rollouts are there."""
        self._begin_training(trainer, 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RolloutBatch, batch_idx: int
    ) -> None:
        """Take in what was decided and what came of it."""
        if self.selector.decisions:  # written responses need no judge
            self.state = self.state.decided(self.selector.decisions, self.selector.arms)
        self.advance(1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what came of the iteration, unless all of that was before the run was interrupted."""
        self.state = replace(self.state, tasks=())
        if self.state.judged_in == self.state.iteration:
            self._show.say(iteration_in_words(self.state))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is no iteration's."""
        self._fitting = None
        self._tests = "test after"
        self.state = replace(self.state, iteration=None)

    def _recall(self, trainer: Trainer) -> None:
        """Take in what was decided in the iteration before the run was interrupted."""
        decided = decisions_of(RunFolder(Path(trainer.default_root_dir)).selection, trainer.current_epoch)
        arms = [*self.selector.arms, *(decision.arm for decision in decided)]  # some may be gone
        for _, own in groupby(decided, key=lambda decision: decision.step):
            self.state = self.state.decided(list(own), arms)

    def _begin_training(self, trainer: Trainer, done: int) -> None:
        self.begin(Task("training", "steps", trainer.num_training_batches, done, done))

    # -- validation and test -----------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A phase of its own, though it lies within training."""
        self._set_aside = self.state.tasks
        self.state = replace(self.state, tasks=())
        self._begin_evaluation("validation", trainer.val_dataloaders, trainer.num_val_batches, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take in what was measured."""
        self._end_evaluation("validation", "validation", trainer)
        self.state = replace(self.state, tasks=self._set_aside, validated_in=self.state.iteration)
        if self._fitting is None and "validation" in self.state.accuracy:
            self._show.say(accuracy_in_words("validation", self.state))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A phase."""
        self._begin_evaluation(self._tests, trainer.test_dataloaders, trainer.num_test_batches, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was measured."""
        self._end_evaluation(self._tests, "test", trainer)
        if self._tests in self.state.accuracy:
            self._show.say(accuracy_in_words(self._tests, self.state))

    def _begin_evaluation(self, name: str, loader: Any, batches: list[int | float], policy: LightningModule) -> None:
        assert isinstance(loader, PromptLoader)
        assert isinstance(policy, Policy)
        prompts = sum(len(batch) for batch in loader.batches[: int(batches[0])])
        self.begin(Task(name, "responses", prompts * (1 + policy.evaluation.n)))  # a greedy one, and the sampled ones

    def _end_evaluation(self, name: str, stage: Literal["validation", "test"], trainer: Trainer) -> None:
        self.end()
        accuracy = trainer.callback_metrics.get(f"{stage}/accuracy/sampled/average")
        if accuracy is not None and not trainer.sanity_checking:
            self.state = self.state.measured(name, float(accuracy))


def view_of(given: Sequence[Any], wanted: bool, selector: Selector, fits: bool) -> tuple[bool, list[LiveView]]:
    """Who shows a command.

    Args:
        given: The user's callbacks, among which a progress bar takes our place.
        wanted: Whether anything is to be shown, if the user brought none.
        selector: The run's.
        fits: Whether the command is ``fit``.

    Returns:
        Whether the trainer has a bar, which is the user's; and ours, at most one, in the first process alone.
    """
    bar = any(isinstance(callback, ProgressBar) for callback in given)
    if bar or not wanted or process_number() > 0:
        return bar, []
    return False, [LiveView(selector, fits, live=Screen.fits(sys.stderr))]


def showing(trainer: Trainer) -> AbstractContextManager[Any]:
    """A block that a trainer's view shows, if it has one."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, LiveView)), nullcontext())
