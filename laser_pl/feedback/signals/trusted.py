"""The trusted check: known answers to a few prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, Prompt, PromptLosses, RolloutBatch
from laser_pl.feedback.observations import Observations, of_all_arms
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.share import Share
from laser_pl.feedback.signals.base import Signal
from laser_pl.metrics.grader import Grader, divided


class Trusted(Signal):
    """How often a reward model puts a right response above a wrong one, on prompts with answers.

    Ties count half. On a share of those prompts every reward model is asked, and all arms learn. It costs K forwards on
    them.

    Args:
        share: Share of the prompts with an answer that are used, in (0, 1]. Chosen by a hash of the prompt.
        matcher: Decides whether a response is right; null: ``model.matcher``.
        seed: Root of the choice; null follows ``seed_everything``.
    """

    measures_accuracy = True

    def __init__(
        self,
        share: float = 0.125,
        matcher: Grader | None = None,
        seed: int | None = None,
    ) -> None:
        self.trusted = Share(share, "trusted", seed)
        self.matcher = matcher

    def check(self, categories: Sequence[str]) -> None:
        """See that its own matcher, if it has one, can grade them all."""
        if self.matcher is not None:
            self.matcher.check(categories)

    def follow(self, seed: int) -> None:
        """Choose the share by the run's seed."""
        self.trusted.follow(seed)

    def polled(self, prompts: Sequence[Prompt]) -> list[int]:
        """Those of the share with an answer, as far as they turn out to have right and wrong responses."""
        return [row for row in self.trusted.rows(prompts) if prompts[row].answer is not None]

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """Every arm's share of pairs ordered rightly, on the trusted prompts that have right and wrong responses."""
        rows: list[int] = []
        right: list[Tensor] = []
        for row in self.polled(batch.prompts.prompts):
            found = divided(self.matcher or ask.grader, batch.responses.texts[row], batch.prompts.prompts[row])
            if found is not None:
                rows.append(row)
                right.append(torch.tensor(found))
        if not rows:
            return of_all_arms([], torch.zeros(0, 0), 0.5)
        scores = ask.scores(rows).double().cpu()  # (K, R, n)
        values = [[float(share_ordered_rightly(own[r], right[r])) for own in scores] for r in range(len(rows))]
        return of_all_arms(rows, torch.tensor(values, dtype=torch.float64), chance=0.5)

    def silence(self, prompts: Sequence[Prompt]) -> str:
        """Why nothing was observed on the share."""
        with_answer = len(self.polled(prompts))
        if not with_answer:
            return "no prompt of its share has an answer; raise selection.signal.share"
        return f"to none of the {with_answer} prompts of its share with an answer were there right and wrong responses"

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        """A half."""
        return torch.full((len(batch),), 0.5, dtype=torch.float64)


def share_ordered_rightly(scores: Tensor, right: Tensor) -> Tensor:
    """Share of (right, wrong) response pairs in which the right one scores higher; ties count half.

    Args:
        scores: Shape ``(n,)``; NaN is no opinion.
        right: Shape ``(n,)``, bool.

    Returns:
        A scalar; NaN where no pair has an opinion.

    >>> share_ordered_rightly(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([False, True, False]))
    tensor(0.5000)
    """
    difference = scores[right][:, None] - scores[~right][None, :]
    difference = difference[difference.isfinite()]
    return ((difference > 0).to(scores.dtype) + 0.5 * (difference == 0)).mean()
