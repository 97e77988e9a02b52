"""Best-of-n: of the responses to a prompt the one that the learned selection's reward model likes best."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.reward_selection import RewardSelection
from laser_pl.batches import PromptBatch, Responses
from laser_pl.data.datamodule import PreferenceData
from laser_pl.errors import ConfigurationError
from laser_pl.policy import Policy
from laser_pl.predictions import Line, Predictions
from laser_pl.ranks import Ranks
from laser_pl.rewards.asker import Asker
from laser_pl.rewards.characters import characters_of
from laser_pl.run.checkpoints import selection_in
from laser_pl.run.origin import tokenizer_digest


class BestOfN(Callback):
    """Chooses a reward model for every prompt by what a run has learned, and writes the response it likes best.

    Nothing is explored: the arm of the largest expected reward is taken and the bonus left out. Where it gives no
    label, the next best is asked. Contexts are single prompts', whatever ``selection.granularity`` the bandit learned
    with, prepared with the run's mean as it stood. A response that a constraint forbids is not chosen; a prompt for
    which none is left has no response, which counts as wrong.

    Args:
        selection: The reward models, and the bandit that takes up what the checkpoint holds.
        checkpoint: The run's.
        predictions: Their file, written once all prompts are answered.

    Attributes:
        lines: This process's predictions; at the end all, in the order of the prompts.
    """

    def __init__(self, selection: RewardSelection, checkpoint: Path, predictions: Predictions) -> None:
        self.selection = selection
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
        self.selection.load_state_dict(selection_in(self.checkpoint, self.selection.arms))
        self.selection.pool.grade_by(pl_module.matcher)
        self.selection.pool.asked_by(Asker.with_tokenizer(pl_module.tokenizer))
        self.selection.pool.check(data.prompts["test"], partial(characters_of, pl_module.tokenizer))
        self.selection.pool.health.clear()
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
        """Choose reward models, let them score, and keep the best responses."""
        if not outputs:
            return
        assert isinstance(pl_module, Policy)
        responses, hidden = outputs
        bandit, context = self.selection.bandit, self.selection.context
        if context.size(hidden.shape[-1]) != bandit.context_size:
            raise ConfigurationError(
                f"The checkpoint's bandit has contexts of size {bandit.context_size}, this policy's have"
                f" {context.size(hidden.shape[-1])}. Predict with the policy and the selection.context of the run."
            )
        contexts = context.prepare(hidden.cpu())
        bandit.tell(0, [prompt.category for prompt in batch.prompts])
        order, means = bandit.without_exploring(contexts), bandit.explain(contexts).mean
        with trainer.precision_plugin.forward_context():
            scores, judges = self._judge(batch, responses, order, pl_module.device)
            scores = self._forbid(batch, responses, scores, pl_module.device)
        arms, lines = self.selection.arms, []
        for row, prompt in enumerate(batch.prompts):
            best = best_of(scores[row])
            grades = None
            if prompt.answer is not None:
                grades = [pl_module.matcher.grade(text, prompt) for text in responses.texts[row]]
            lines.append(
                {
                    "prompt_id": prompt.id,
                    "prompt": prompt.prompt,
                    "category": prompt.category,
                    "arm": judges[row],
                    "mean": dict(zip(arms, means[row].tolist(), strict=True)),
                    "response": None if best is None else responses.texts[row][best],
                    "score": None if best is None else float(scores[row, best]),
                    "answer": prompt.answer,
                    "metric": pl_module.matcher.name_of(prompt.category),
                    "grade": None if grades is None else 0.0 if best is None else grades[best],
                    "sampled": None if grades is None else sum(grades) / len(grades),
                }
            )

        self.predictions.keep(lines, Ranks.of(trainer).rank)
        self.lines += lines

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what all processes have, in the order of the prompts."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        place = {prompt.id: number for number, prompt in enumerate(data.prompts["test"])}
        new = {line["prompt_id"]: line for lines in Ranks.of(trainer).gather(self.lines) for line in lines}
        every = {**self.predictions.known, **new}
        self.lines = sorted(every.values(), key=lambda line: place[line["prompt_id"]])
        if trainer.is_global_zero:
            self.predictions.finish(self.lines)

    def _judge(
        self, batch: PromptBatch, responses: Responses, order: Tensor, device: torch.device
    ) -> tuple[Tensor, list[str | None]]:
        """Scores ``(B, n)`` of the first reward model in each prompt's order that gives any, and its name."""
        names = self.selection.arms
        scores = torch.full((len(batch), len(responses.texts[0])), torch.nan, dtype=torch.float64)
        judges: list[str | None] = [None] * len(batch)
        for choice in order.unbind(-1):  # (B,)
            waiting = [row for row, judge in enumerate(judges) if judge is None]
            for arm in sorted({int(choice[row]) for row in waiting}):
                rows = [row for row in waiting if choice[row] == arm]
                scores[rows] = self._ask(names[arm], batch, responses, rows, device)
                for row in rows:
                    judges[row] = names[arm] if bool(scores[row].isfinite().any()) else None
        return scores, judges

    def _forbid(self, batch: PromptBatch, responses: Responses, scores: Tensor, device: torch.device) -> Tensor:
        """The scores, with NaN for what a constraint forbids. Shape ``(B, n)``."""
        for name, constraint in self.selection.constraints.items():
            passed = self._ask(name, batch, responses, list(range(len(batch))), device) >= constraint.threshold
            scores = scores.masked_fill(~passed, torch.nan)
        return scores

    def _ask(
        self, name: str, batch: PromptBatch, responses: Responses, rows: list[int], device: torch.device
    ) -> Tensor:
        """One reward model's labels for some rows ``(len(rows), n)``; none while it is aside."""
        pool = self.selection.pool
        if not pool.health.may_be_asked(name):
            return torch.full((len(rows), len(responses.texts[0])), torch.nan, dtype=torch.float64)
        prompts, texts = [batch.prompts[row] for row in rows], [responses.texts[row] for row in rows]
        return pool.score(name, prompts, texts, device)


def best_of(scores: Tensor) -> int | None:
    """The response with the highest score, the first of equal ones; None if none has a score.

    Args:
        scores: NaN where there is none, or the response is forbidden. Shape ``(n,)``.

    >>> best_of(torch.tensor([0.5, torch.nan, 2.0, 2.0])), best_of(torch.tensor([torch.nan]))
    (2, None)
    """
    return int(scores.nan_to_num(nan=-torch.inf).argmax()) if bool(scores.isfinite().any()) else None
