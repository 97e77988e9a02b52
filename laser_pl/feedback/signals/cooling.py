"""What a reward model's score would gain if the policy were sampled a little colder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from laser_pl.batches import PromptLosses, RolloutBatch
from laser_pl.feedback.instruments import Instruments
from laser_pl.feedback.observations import Observations, of_all_arms
from laser_pl.feedback.share import Share
from laser_pl.feedback.signals.base import Signal
from laser_pl.feedback.signals.spread import Spread


class Cooling(Signal):
    r"""The covariance of a reward model's scores with the log-likelihood of what it scored.

    It is a derivative: with :math:`p_\tau \propto p^\tau`, the policy sampled at the inverse temperature :math:`\tau`,

    .. math:: \frac{d}{d\tau} E_{y \sim p_\tau}[s(y)] \Big|_{\tau = 1} = \mathrm{Cov}_{y \sim p}(s(y), \log p(y)).

    A policy that is worth training errs at random more often than by conviction, so it is better when it is colder. The
    scores of a reward model that knows what it judges rise with that; those of one that does not know, or is confident
    and wrong, do not. Unlike the loss it compares responses to one prompt, so that the prompt's difficulty falls out,
    and it uses all scores and how far they lie apart, not the first place alone. Where the policy is wrong by
    conviction it is misled, as the loss is.

    Scores are counted in spreads, each arm's own over all prompts, since only so they can be compared. An arm that is
    asked about one kind of prompt alone does not know its spread; so on a share of the prompts all are asked, and all
    learn. No answers are needed. It costs K forwards on those prompts; the log-likelihoods, under the policy at the
    iteration's start, lie with the rollouts.

    Args:
        share: Share of the prompts on which every reward model is asked, in (0, 1], chosen by a hash of the prompt.
        reduction: ``sum`` takes the log-likelihood of the whole response, as the formula has it. A colder policy is
            also a shorter one, so where lengths differ much that favours whoever likes short responses; ``mean`` takes
            the log-likelihood per token instead.
        seed: Root of the choice.
    """

    def __init__(self, share: float = 0.125, reduction: Literal["sum", "mean"] = "sum", seed: int = 0) -> None:
        self.reduction = reduction
        self.asked = Share(share, "cooling", seed)
        self.spread = Spread()

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names."""
        self.spread.start(arms)

    def measure(self, batch: RolloutBatch, losses: PromptLosses, ask: Instruments) -> Observations:
        """The covariance over each asked prompt's responses, in nats, of every arm."""
        rows = self.asked.rows(batch.prompts.prompts)
        if not rows:
            return of_all_arms([], torch.zeros(0, 0), 0.0)
        scores = ask.scores(rows).double().cpu()  # (K, R, n)
        logprobs = batch.reference_logprobs[rows].double().cpu()  # (R, n)
        if self.reduction == "mean":
            logprobs = logprobs / batch.responses.mask[rows].sum(-1).cpu()
        spread = torch.stack([self.spread.observe(arm, own) for arm, own in enumerate(scores)])  # (K,)
        values = torch.stack([covariance(own, logprobs) for own in scores]) / spread[:, None]  # (K, R)
        return of_all_arms(rows, values.T, chance=0.0)

    def state_dict(self) -> dict[str, Any]:
        """Each arm's spread."""
        return self.spread.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up each arm's spread."""
        self.spread.load_state_dict(state)


def covariance(scores: Tensor, others: Tensor) -> Tensor:
    """Of each row's finite scores with their partners, divided by their number.

    Args:
        scores: NaN is no opinion. Shape ``(B, n)``.
        others: Finite. Shape ``(B, n)``.

    Returns:
        NaN where there is no score. Shape ``(B,)``.

    >>> covariance(torch.tensor([[1.0, 3.0, torch.nan]]), torch.tensor([[0.0, 4.0, 9.0]]))
    tensor([2.])
    """
    others = others.masked_fill(~scores.isfinite(), torch.nan)
    return ((scores - scores.nanmean(-1, keepdim=True)) * (others - others.nanmean(-1, keepdim=True))).nanmean(-1)
