"""What a reward model's score would gain if the policy were sampled a little colder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, Prompt, PromptLosses
from laser_pl.feedback.observations import Observations, of_all_arms
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.share import Share
from laser_pl.feedback.signals.base import Signal
from laser_pl.feedback.signals.spread import Spread


class Cooling(Signal):
    r"""The covariance of a reward model's scores with the log-likelihood of what it scored.

    It is a derivative: with :math:`p_\tau \propto p^\tau`, the policy at the inverse temperature :math:`\tau`,

    .. math:: \frac{d}{d\tau} E_{y \sim p_\tau}[s(y)] = \mathrm{Cov}_{y \sim p_\tau}(s(y), \log p(y)).

    The responses are drawn as the rollouts are, at the temperature T of ``data.rollouts``, and :math:`\log p` is the
    policy's own, at temperature 1. So the derivative is that at :math:`\tau = 1 / T`, the temperature of the rollouts
    (0.8 by default: at 1.25), not at 1. To be exact, :math:`p_\tau` sharpens whole responses, and a sampler sharpens
    token by token; for that the covariance is with :math:`\sum_t (\log p(y_t) - E_\tau[\log p])`, whose second term,
    the mean log-likelihood of the next token at each place, is left out here. For one token it is the same.

    A policy that is worth training errs at random more often than by conviction, so it is better when it is colder. The
    scores of a reward model that knows what it judges rise with that; those of one that does not know, or is confident
    and wrong, do not. Unlike the loss it compares responses to one prompt, so that the prompt's difficulty falls out,
    and it uses all scores and how far they lie apart, not the first place alone. Where the policy is wrong by
    conviction it is misled, as the loss is.

    Scores are counted in spreads, each arm's own over all prompts, since only so they can be compared. An arm that is
    asked about one kind of prompt alone does not know its spread; so on a share of the prompts all are asked, and all
    learn. No answers are needed. It costs K forwards on those prompts; the log-likelihoods, under the policy at the
    iteration's start, lie with the rollouts.

    Log-likelihoods have a long lower tail: one sampled slip can lie ten nats below all else, and then the covariance
    says little more than whether the slip is disliked. Where all reward models dislike slips and differ about
    plausible responses only, that drowns what should be learned. With ``likelihoods: ranks`` a response counts by its
    ``standing`` among the others instead, and the covariance becomes

    .. math:: E[s(\text{the likelier of two})] - E[s(\text{one})],

    over two of the prompt's responses: the gain if two were drawn and the likelier kept, which is another way to be
    colder, and one that no tail can rule. Weighing by probability did as well, but of long responses it leaves one.

    Ranks were chosen after looking at both worlds of this repository (``experiments/study/signals.py``), so that
    neither is an independent check of them. Before any training they name the right reward model at least as often as
    the values do, with two exceptions: where the policy is wrong by conviction they are misled with more confidence,
    and as a further arm the policy's own likelihood, a good judge in the first world, is named less often there.

    Args:
        share: Share of the prompts on which all are asked, in (0, 1]. Chosen by a hash of the prompt.
        reduction: Whose log-likelihood counts. ``sum`` is that of the response, as the formula has it. A colder policy
            is also a shorter one, so where lengths differ much that favours whoever likes short responses; ``mean``
            takes the log-likelihood per token instead.
        seed: Root of the choice; null follows ``seed_everything``.
        likelihoods: How they count. ``values`` takes the log-likelihoods as they are, and observes nats; ``ranks``
            takes their order only, and observes spreads of the scores.
    """

    def __init__(
        self,
        share: float = 0.125,
        reduction: Literal["sum", "mean"] = "sum",
        seed: int | None = None,
        likelihoods: Literal["values", "ranks"] = "values",
    ) -> None:
        self.reduction = reduction
        self.likelihoods = likelihoods
        self.asked = Share(share, "cooling", seed)
        self.spread = Spread()

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names."""
        self.spread.start(arms)

    def follow(self, seed: int) -> None:
        """Choose the share by the run's seed."""
        self.asked.follow(seed)

    def polled(self, prompts: Sequence[Prompt]) -> list[int]:
        """Those of the share."""
        return self.asked.rows(prompts)

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """The covariance over each asked prompt's responses of every arm."""
        rows = self.polled(batch.prompts.prompts)
        if not rows:
            return of_all_arms([], torch.zeros(0, 0), 0.0)
        return of_all_arms(rows, self.gains(batch, rows, ask.scores(rows).double().cpu()).T, chance=0.0)

    def gains(self, batch: LabelledBatch, rows: list[int], scores: Tensor) -> Tensor:
        """Every arm's covariance on some prompts, in spreads of its scores, these included.

        Args:
            batch: The labelled batch.
            rows: Which of its prompts, ``R``.
            scores: Of all arms there, float64. Shape ``(K, R, n)``.

        Returns:
            Shape ``(K, R)``.
        """
        logprobs = batch.reference_logprobs[rows].double().cpu()  # (R, n)
        if self.reduction == "mean":
            logprobs = logprobs / batch.responses.mask[rows].sum(-1).cpu()
        spread = torch.stack([self.spread.observe(arm, own) for arm, own in enumerate(scores)])  # (K,)
        relation = covariance if self.likelihoods == "values" else gain_of_the_likelier
        return torch.stack([relation(own, logprobs) for own in scores]) / spread[:, None]

    def silence(self, prompts: Sequence[Prompt]) -> str:
        """Why nothing was observed on the share."""
        return self.asked.silence(prompts, "got a label")

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


def gain_of_the_likelier(scores: Tensor, logprobs: Tensor) -> Tensor:
    """How much higher the likelier of two of a row's responses is scored than one of them, in the mean of all pairs.

    It is the covariance of the scores with the ``standing`` of their responses. Of two that are equally likely either
    may be kept.

    Args:
        scores: NaN is no opinion; such a response is in no pair. Shape ``(B, n)``.
        logprobs: Finite. Shape ``(B, n)``.

    Returns:
        NaN where there is no score, 0 where there is one. Shape ``(B,)``.

    >>> gain_of_the_likelier(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[-1.0, -2.0, -99.0]]))
    tensor([1.])
    """
    return covariance(scores, standing(logprobs.masked_fill(~scores.isfinite(), torch.nan)))


def standing(values: Tensor) -> Tensor:
    """The share of the others in its row that lie below each value, less the share that lies above.

    Args:
        values: NaN does not count. Shape ``(B, n)``.

    Returns:
        From -1, the lowest, to 1; NaN stays. Shape ``(B, n)``.

    >>> standing(torch.tensor([[-1.0, -2.0, -99.0], [0.0, 0.0, torch.nan]]))
    tensor([[ 1.,  0., -1.],
            [ 0.,  0., nan]])
    """
    order = (values[..., :, None] - values[..., None, :]).nan_to_num(0.0).sign()  # (B, n, n)
    others = values.isfinite().sum(-1, keepdim=True) - 1
    return (order.sum(-1) / others.clamp_min(1)).masked_fill(~values.isfinite(), torch.nan)
