"""The callback for TRL: the bandit learns once a generation batch was trained, and its state is in the checkpoints."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from laser_pl.errors import ConfigurationError
from laser_pl.integrations.trl.groups import prompts_of_data
from laser_pl.integrations.trl.record import Record
from laser_pl.integrations.trl.saved import NAME, read_state, write_state
from laser_pl.integrations.trl.selected import SelectedReward
from laser_pl.run.folder import RunFolder
from laser_pl.run.line_cache import digest_of
from laser_pl.selection.selector import Selector

log = logging.getLogger(__name__)


class SelectionCallback(TrainerCallback):  # type: ignore[misc]
    """Informs a ``SelectedReward`` of what its trainer does: give the trainer both.

    A generation batch may be trained by several micro-batches, and several times over (``steps_per_generation``,
    ``num_iterations``); the bandit learns from it once, after the last of them.

    Each of TRL's checkpoints gets a file ``selection.safetensors`` with what the bandit knows: tensors, and JSON in its
    head. A checkpoint within a generation batch holds what was known before it, since TRL samples that batch again.

    The record of the training is a folder of its own in ``output_dir``, ``selection``: ``python -m laser_pl report``
    reads it, as it does a run's.

    Args:
        reward: The reward function, which the trainer has as one of its ``reward_funcs``.
        resume_from_checkpoint: The folder that ``trainer.train(resume_from_checkpoint=...)`` is given, if it does
            not lie in ``output_dir``; a trainer does not say so to its callbacks.

    Attributes:
        record: What is written down, in the first process, once training has begun.
    """

    def __init__(self, reward: SelectedReward, resume_from_checkpoint: str | None = None) -> None:
        if not isinstance(reward, SelectedReward):
            raise ConfigurationError(
                f"SelectionCallback takes the SelectedReward that is in the trainer's reward_funcs, got {reward!r}."
            )
        self.reward = reward
        self.resume_from_checkpoint = resume_from_checkpoint
        self.record: Record | None = None

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Know the trainer, which may evaluate before it trains."""
        self.reward.meet(args, kwargs["model"], kwargs["processing_class"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check all that can be checked before anything is sampled, and take up what was learned.

        Raises:
            ConfigurationError: If something is wrong, or the checkpoint holds no selection.
        """
        reward, ranks = self.reward, None
        reward.meet(args, kwargs["model"], kwargs["processing_class"])
        _warn_of_units(args, reward.selector)
        data = getattr(kwargs.get("train_dataloader"), "dataset", None)
        if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
            prompts = list(prompts_of_data(data, reward.rows))
            reward.prepare(prompts)
            reward.refuse_silence(prompts)
        ranks = reward.selector.panel.processes
        saved = read_state(self._checkpoint(args, state)) if state.global_step else None
        if saved is not None:
            self._refuse_other(saved, state, self._checkpoint(args, state))
            reward.load_state_dict(saved)
        if ranks.rank == 0:
            folder = None if saved is None else self._folder_of(saved, args, state)
            if saved is not None and folder is not None and folder.config.exists():
                self.record = Record.go_on(folder, reward.batches, saved["rows"])
            else:
                self.record = Record.begin(args.output_dir, reward.selector, int(state.num_train_epochs))
            self.record.expect(math.ceil(state.max_steps * args.gradient_accumulation_steps / reward.cycle))
            log.info("The selection's record: %s", self.record.folder.path)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A micro-batch was trained."""
        self._trained()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last micro-batch of an optimizer step was trained.

        Raises:
            ConfigurationError: If the trainer does not use the reward function.
        """
        if not self.reward.asked:
            raise ConfigurationError(
                "The trainer has SelectionCallback and never asked its SelectedReward: put that into reward_funcs."
            )
        self._trained()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Record what is logged."""
        if self.record is not None and logs:
            self.record.log(logs, state.global_step, state.epoch or 0)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put what was learned into the checkpoint that was just written."""
        if self.record is None:
            return
        folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
        if not folder.is_dir():
            log.warning("There is no checkpoint '%s': what the bandit learned is not saved.", folder)
            return
        write_state(
            folder / NAME,
            {
                **self.reward.state_dict(),
                "folder": self.record.folder.path.name,
                "rows": self.record.metrics.count,
                "log": digest_of(state.log_history),
            },
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Learn from the last batch, if training ended within it."""
        self.reward.learn()
        self._write()
        if self.record is not None:
            self.record.end(self.reward.selector, self.reward.batches, int(state.num_train_epochs))

    def _trained(self) -> None:
        self.reward.trained()
        self._write()

    def _write(self) -> None:
        for learned in self.reward.taken():
            if self.record is not None:
                self.record.write(learned, self.reward.selector.arms, self.reward.matcher)

    def _checkpoint(self, args: Any, state: Any) -> Path:
        folder = self.resume_from_checkpoint or Path(args.output_dir, f"checkpoint-{state.global_step}")
        path = Path(folder, NAME)
        if not path.is_file():
            raise ConfigurationError(
                f"There is no '{path}', in which SelectionCallback keeps what the bandit learned. Name the checkpoint's"
                " folder to it as well, SelectionCallback(reward, resume_from_checkpoint=...), and resume from one that"
                " was made with it."
            )
        return path

    def _folder_of(self, saved: dict[str, Any], args: Any, state: Any) -> RunFolder | None:
        """The record of the training that a checkpoint is of, if that lies in the trainer's folder."""
        name = Path(str(saved["folder"])).name  # beside the checkpoint, whatever its file says
        of = self._checkpoint(args, state).parent.resolve().parent
        own = of == Path(args.output_dir).resolve() and name != ".."
        return RunFolder(Path(args.output_dir, name)) if own and name else None

    def _refuse_other(self, saved: dict[str, Any], state: Any, path: Path) -> None:
        """See that the file is of the checkpoint that the trainer goes on from, by what had been logged."""
        if saved.get("log") != digest_of(state.log_history):
            raise ConfigurationError(
                f"'{path}' is not of the checkpoint that training goes on from. Name that one's folder to"
                " SelectionCallback(reward, resume_from_checkpoint=...)."
            )


def _warn_of_units(args: Any, selector: Selector) -> None:
    """Say that scores count as they are, where the trainer does not level those of unlike arms."""
    whole = selector.granularity == "batch"  # so that a batch's scores have one unit
    if hasattr(args, "normalize_advantages"):
        levelled = args.normalize_advantages and whole
        setting = 'normalize_advantages=True, with granularity="batch"'
    else:
        levelled = args.scale_rewards == "group" or (args.scale_rewards == "batch" and whole)
        setting = 'scale_rewards="group"'
    if len(selector.arms) > 1 and not levelled:
        log.warning(
            "Advantages are taken in each reward model's own unit, so that one whose scores lie further apart makes"
            " larger steps. Set %s, or see that all score in one unit.", setting
        )  # fmt: skip
