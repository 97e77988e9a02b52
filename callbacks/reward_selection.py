"""The selector in training."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from laser_pl.batches import LabelledBatch, PromptLosses, RolloutBatch
from laser_pl.data.datamodule import PreferenceData
from laser_pl.data.loaders import RolloutLoader
from laser_pl.feedback.normalizers import RewardNormalizer
from laser_pl.feedback.queries import Queries
from laser_pl.messages import misled
from laser_pl.moved import renamed
from laser_pl.policy.policy import Policy
from laser_pl.rewards.asker import Asker, means
from laser_pl.run.metrics_file import forget_last, last_logged
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.selection.selector import Selector
from laser_pl.selection.teaching import what_is_wrong

log = logging.getLogger(__name__)


class RewardSelection(Callback):
    """Labels each batch just before its training step, and lets the selector learn from the step's loss.

    The iteration's loader hands out labelled batches; the module never calls the callback. The choice for step t + 1
    has seen the result of step t.

    Args:
        scale: The former name of ``normalizer``.
        kwargs: Those of ``Selector``.

    Attributes:
        selector: It.
    """

    def __init__(self, scale: RewardNormalizer | None = None, **kwargs: Any) -> None:
        if scale is not None:
            renamed("selection.scale", "selection.normalizer")
            kwargs["normalizer"] = scale
        self.selector = Selector(**kwargs)
        self.asker: Asker | None = None
        self._misled: set[str] = set()  # categories of which it was said

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that signal and objective fit, and that the reward models are there."""
        if stage != "fit":
            return
        assert isinstance(pl_module, Policy)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, PreferenceData)
        self.selector.needs = pl_module.objective.needs
        self.selector.panel.processes = ProcessGroup.of(trainer)
        self.selector.panel.device = trainer.strategy.root_device
        self.asker = self.selector.prepare(pl_module.matcher, pl_module.tokenizer, data.prompts["train"])
        self.selector.compared.read(data.prompts["train"], pl_module.matcher)
        if (wrong := what_is_wrong(self.selector.signal, pl_module.objective)) is not None:
            log.warning(wrong)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Label what is left of the iteration, where a run goes on within one: nothing says that it starts."""
        _loader_of(trainer).label = partial(self._label, trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an iteration, whose contexts are all known by now."""
        loader = _loader_of(trainer)
        loader.label = partial(self._label, trainer)
        self.selector.begin_iteration(loader.batches)

    def _label(self, trainer: Trainer, batch: RolloutBatch) -> LabelledBatch:
        """The batch of the step that comes next, on the CPU yet."""
        self._show(trainer, batch)
        # Batches are made outside the precision plugin's context, in which the reward models are meant to run.
        with trainer.precision_plugin.forward_context():
            return self.selector.label(batch, _step(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: LabelledBatch, batch_idx: int
    ) -> None:
        """Let the selector learn. Of a step that was skipped the loss says nothing; what all arms said stays true."""
        assert isinstance(pl_module, Policy)
        assert self.asker is not None
        losses: PromptLosses = outputs["prompt_losses"]
        ask = Queries(logprobs=pl_module.logprobs, start_logprobs=pl_module.start_logprobs, grader=pl_module.matcher)
        with trainer.precision_plugin.forward_context():
            self.selector.learn(batch, losses if pl_module.step.learned else losses.unknown(), ask)
        told = means(self.selector.panel.processes.gather(self.asker.told()))
        forget_last(trainer, [name for name in last_logged(trainer) if name.startswith("reward/") and name not in told])
        pl_module.log_dict(told, on_step=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why, if the signal observed nothing in the whole iteration; and where answers contradict likelihoods."""
        selector = self.selector
        for found in selector.signal.findings():
            category, p = found["category"], found["misled"]
            if p is not None and category not in self._misled and selector.panel.processes.rank == 0:
                self._misled.add(category)
                log.warning("%s %s", misled.what(category, found["answers"], p), misled.ADVICE)
        if selector.measured == 0 and selector.panel.processes.rank == 0:
            prompts = [prompt for batch in _loader_of(trainer).batches for prompt in batch.prompts.prompts]
            log.warning("%s observed nothing in iteration %d, so that the bandit learned nothing from it: %s.",
                        type(selector.signal).__name__, trainer.current_epoch + 1,
                        selector.signal.silence(prompts))  # fmt: skip

    def _show(self, trainer: Trainer, batch: RolloutBatch) -> None:
        """What reward functions may see of the run."""
        assert self.asker is not None
        self.asker.shows(batch)
        state, batches = self.asker.state, int(trainer.num_training_batches)
        state.global_step = trainer.global_step
        state.epoch = _step(trainer) / batches
        state.num_train_epochs = trainer.max_epochs or 0
        state.max_steps = state.num_train_epochs * batches // trainer.accumulate_grad_batches

    def state_dict(self) -> dict[str, Any]:
        """The selector's."""
        return self.selector.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was learned."""
        self.selector.load_state_dict(state_dict)


def _loader_of(trainer: Trainer) -> RolloutLoader:
    loader = trainer.train_dataloader
    assert isinstance(loader, RolloutLoader)
    return loader


def _step(trainer: Trainer) -> int:
    """The step that comes next, counted from 0 over the run; Lightning counts it once its batch is there."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready
