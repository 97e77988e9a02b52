"""Checkpoints to continue an interrupted run from."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from laser_pl.errors import ConfigurationError
from laser_pl.messages.diverged import ADVICE
from laser_pl.policy.policy import Policy
from laser_pl.run.files import written_aside
from laser_pl.run.folder import RunFolder
from laser_pl.runtime.interruption import Interrupted, Interruption
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.selection.selector import Selector


class RunCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt``: adapter, optimizer, bandit and cursor, never the frozen base.

    The trainer's ``FitLoop`` asks it to, where nothing is under way.

    It is written at the end of every iteration, and within one every ``every`` batches. Lightning's
    ``ModelCheckpoint`` does one or the other, and not under a name that is replaced atomically; add it to
    ``trainer.callbacks`` to keep the best by some metric.

    When no reward model is left that can judge, or a signal asks for it, it saves once more and ends the run. While
    training steps go bad it saves nothing within an iteration, and never a policy whose logits are not finite, so that
    what is there is from before.

    Args:
        folder: The run's folder.
        every: Batches between checkpoints within an iteration.
        keep: Iterations that have ended whose rollouts are kept; None keeps all.
        selector: Says when nobody can judge.
        interruption: Says when a signal came.
    """

    def __init__(
        self,
        folder: RunFolder,
        every: int,
        keep: int | None,
        selector: Selector,
        interruption: Interruption,
    ) -> None:
        for name, value in (("checkpoint_every", every), ("keep_iterations", keep)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be >= 1, got {value}. Set --{name}.")
        self.folder = folder
        self.every = every
        self.keep = keep
        self.selector = selector
        self.interruption = interruption

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """From here to the iteration's end a signal waits for the end of the batch, where it can be saved.

        Not from the iteration's start: Lightning calls no hook where a run goes on within one.
        """
        self.interruption.patient = True

    def batch_over(self, trainer: Trainer) -> None:
        """Save within an iteration, between optimizer steps."""
        loop = trainer.fit_loop.epoch_loop
        policy = trainer.lightning_module
        assert isinstance(policy, Policy)
        asked = self._asked(trainer)
        wanted = asked is not None or self.selector.stuck is not None or (loop.batch_idx + 1) % self.every == 0
        if wanted and not loop._should_accumulate() and policy.step.bad is None and policy.predicts():
            self.save(trainer)
            self._end_if_wanted(asked)

    def iteration_over(self, trainer: Trainer) -> None:
        """Save at an iteration's end.

        Raises:
            ConfigurationError: If the policy's logits are not finite.
        """
        policy = trainer.lightning_module
        assert isinstance(policy, Policy)
        if not policy.predicts():
            raise ConfigurationError(f"Training went wrong: the policy's logits are not finite any more. {ADVICE}")
        self.save(trainer)
        if self.keep is not None and trainer.is_global_zero:
            self.folder.discard_rollouts(trainer.current_epoch - 1 - self.keep)
        self._end_if_wanted(self._asked(trainer))
        self.interruption.patient = False

    def training_over(self, trainer: Trainer) -> None:
        """Save what was trained."""
        self.iteration_over(trainer)

    def _asked(self, trainer: Trainer) -> int | None:
        """The signal that any process got, the same in all."""
        signals = ProcessGroup.of(trainer).gather(self.interruption.asked)
        return next((signum for signum in signals if signum is not None), None)

    def _end_if_wanted(self, asked: int | None) -> None:
        if asked is not None:
            raise Interrupted(asked, everywhere=True)
        if self.selector.stuck is not None:
            raise ConfigurationError(
                f"{self.selector.stuck} What was trained is in {self.folder.checkpoint}: mend the reward models and go"
                " on with --resume."
            )

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint beside the last one, then take its place. Metrics so far are written first."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for logger in trainer.loggers:
            logger.save()
        if trainer.is_global_zero:
            with written_aside(self.folder.checkpoint, self.folder.path) as aside:
                trainer.save_checkpoint(aside / self.folder.checkpoint.name, weights_only=False)
        else:
            trainer.save_checkpoint(self.folder.checkpoint, weights_only=False)  # takes part and writes nothing
        trainer.strategy.barrier("checkpoint")
