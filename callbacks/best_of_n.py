"""Best-of-n: of the responses to a prompt the one that the learned selection's reward model likes best."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from laser_pl.batches import PromptBatch, Responses
from laser_pl.data.datamodule import PreferenceData
from laser_pl.errors import ConfigurationError
from laser_pl.policy.policy import Policy
from laser_pl.report.predictions import Line, Predictions, line_of
from laser_pl.run.checkpoints import selection_in
from laser_pl.run.origin import tokenizer_digest
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.selection.selector import Selector


class BestOfN(Callback):
    """Chooses a reward model for every prompt by what a run has learned, and writes the response it likes best.

    Nothing is explored: the arm of the largest expected reward is taken and the bonus left out. Where it gives no
    label, the next best is asked. Contexts are single prompts', whatever ``selection.granularity`` the bandit learned
    with, prepared with the run's mean as it stood. A response that a constraint forbids is not chosen; a prompt for
    which none is left has no response, which counts as wrong. So has one that nobody could judge for a fault, which is
    not kept as known: the same command asks again, if it was interrupted. Where nobody is left to ask, it ends.

    Args:
        selector: The reward models, and the bandit that takes up what the checkpoint holds.
        checkpoint: The run's.
        predictions: Their file, written once all prompts are answered.

    Attributes:
        lines: This process's predictions; at the end all, in the order of the prompts.
    """

    def __init__(self, selector: Selector, checkpoint: Path, predictions: Predictions) -> None:
        self.selector = selector
        self.checkpoint = checkpoint
        self.predictions = predictions
        self.lines: list[Line] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take up what was learned and predicted, and see that all is there, before any weights are loaded.

        Raises:
            ConfigurationError: If there is nothing to answer, no grader for a category, no reward model, or the
                checkpoint is of other ones.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, PreferenceData)
        assert isinstance(pl_module, Policy)
        if not data.prompts["test"]:
            raise ConfigurationError("predict has no prompt to answer. Set data.test, or data.test_fraction above 0.")
        pl_module.matcher.check(sorted({prompt.category for prompt in data.prompts["test"]}))
        self.selector.load_state_dict(selection_in(self.checkpoint, self.selector.arms))
        self.selector.panel.device = trainer.strategy.root_device
        self.selector.prepare(pl_module.matcher, pl_module.tokenizer, data.prompts["test"])
        self.selector.pool.health.clear()
        texts = {prompt.id: prompt.text for prompt in data.prompts["test"]}
        self.predictions.find(tokenizer_digest(pl_module.tokenizer), texts)
        data.predicted = self.predictions.known.keys()

    @torch.no_grad()
    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: tuple[Responses, Tensor] | tuple[()],
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Choose reward models, let them score, and keep the best responses.

        Raises:
            ConfigurationError: If no reward model is left that can judge, or a constraint cannot be checked.
        """
        if not outputs:
            return
        assert isinstance(pl_module, Policy)
        responses, hidden = outputs
        self.selector.pool.health.step += 1  # so that who is put aside comes back
        with trainer.precision_plugin.forward_context():
            best = self.selector.best(batch.prompts, responses.texts, hidden)
        if best.stuck is not None:
            raise ConfigurationError(
                f"{best.stuck} What was predicted is kept: mend the reward models, and give the command again."
            )
        lines = [
            line_of(prompt, responses.texts[row], row, best, self.selector.arms, pl_module.matcher)
            for row, prompt in enumerate(batch.prompts)
        ]
        kept = [line for line, lost in zip(lines, best.lost.tolist(), strict=True) if not lost]
        self.predictions.keep(kept, ProcessGroup.of(trainer).rank)
        self.lines += lines

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what all processes have, in the order of the prompts."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        place = {prompt.id: number for number, prompt in enumerate(data.prompts["test"])}
        new = {line["prompt_id"]: line for lines in ProcessGroup.of(trainer).gather(self.lines) for line in lines}
        every = {**self.predictions.known, **new}
        self.lines = sorted(every.values(), key=lambda line: place[line["prompt_id"]])
        if trainer.is_global_zero:
            self.predictions.finish(self.lines)
