"""Statistics of scores and likelihoods that could say who judges rightly: the library's signals and others tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from laser_pl.feedback.signals.cooling import covariance, gain_of_the_likelier, standing
from laser_pl.feedback.signals.majority import agreement


@dataclass(frozen=True)
class Sampled:
    """What a policy said to some prompts.

    Attributes:
        logprobs: Of the responses, in nats. Shape ``(B, n)``, float64.
        lengths: Their tokens. Shape ``(B, n)``.
        same: Whether two responses to a prompt are the same text. Shape ``(B, n, n)``, bool.
    """

    logprobs: Tensor
    lengths: Tensor
    same: Tensor

    @property
    def distinct(self) -> Tensor:
        """Whether a response is the first of its text. Shape ``(B, n)``, bool."""
        return self.same.int().argmax(-1) == torch.arange(self.same.shape[-1])


def same_texts(texts: Sequence[Sequence[str]]) -> Tensor:
    """Whether two responses to a prompt are the same text. Shape ``(B, n, n)``."""
    return torch.tensor([[[one == other for other in row] for one in row] for row in texts])


def spreads(scores: Tensor) -> Tensor:
    """Each arm's deviation about its prompts' means. Shapes ``(K, B, n)`` to ``(K, 1)``."""
    return (scores - scores.mean(-1, keepdim=True)).square().mean((1, 2)).sqrt()[:, None]


def signals(scores: Tensor, sampled: Sampled) -> dict[str, Tensor]:
    """What each of the library's signals says of every arm on every prompt.

    Args:
        scores: Shape ``(K, B, n)``.
        sampled: What was scored.

    Returns:
        By the signal's name. Shape ``(K, B)``.
    """
    per_token = sampled.logprobs / sampled.lengths  # (B, n)
    ordered = scores.sort(-1, descending=True).values
    return {
        "score gap": (ordered[..., 0] - ordered[..., -4:].mean(-1)) / spreads(scores),
        "NLL of the first": of_the_first(scores, per_token) - per_token.mean(-1),
        "majority of the others": agreement(scores).nan_to_num(0.5),
        "cooling": _each(covariance, scores, sampled.logprobs) / spreads(scores),
        "cooling per token": _each(covariance, scores, per_token) / spreads(scores),
        "cooling by ranks": _each(gain_of_the_likelier, scores, sampled.logprobs) / spreads(scores),
    }


def others(scores: Tensor, sampled: Sampled) -> dict[str, Tensor]:
    """What else was tried; arguments and result as in ``signals``."""
    logprobs, distinct = sampled.logprobs, sampled.distinct
    likely = torch.where(distinct, logprobs, -torch.inf)
    frequency = sampled.same.double().mean(-1)  # (B, n)
    in_spreads = (scores - scores.mean(-1, keepdim=True)) / spreads(scores)[..., None]
    beyond = in_spreads - (in_spreads.sum(0) - in_spreads) / (len(scores) - 1)
    ranks = torch.stack([standing(own) for own in scores])
    clipped = clip(scores)
    return {
        "cooling by ranks per token": _each(gain_of_the_likelier, scores, logprobs / sampled.lengths) / spreads(scores),
        "ranks of both": _each(gain_of_the_likelier, ranks, logprobs),
        "clipped scores": _each(covariance, clipped, logprobs) / spreads(clipped),
        "distinct responses": weighted(scores, logprobs, distinct.double()) / spreads(scores),
        "distinct, by root of probability": weighted(scores, logprobs, (likely / 2).exp()) / spreads(scores),
        "distinct, by probability": weighted(scores, logprobs, likely.exp()) / spreads(scores),
        "the same, tanh of scores": weighted(in_spreads.tanh(), logprobs, likely.exp()),
        "likeliest over runner-up": over_the_runner_up(scores, likely) / spreads(scores),
        "likelihood of the first": of_the_first(scores, logprobs) - logprobs.mean(-1),
        "frequency of the first": of_the_first(scores, frequency),
        "covariance with frequency": _each(covariance, scores, frequency) / spreads(scores),
        "beyond the pool's mean": _each(covariance, beyond, logprobs) / spreads(beyond),
        "decisive about the plausible": over_the_runner_up(scores, likely).abs() / spreads(scores),
    }


def clip(scores: Tensor) -> Tensor:
    """Distances from the prompt's median, clipped at the arm's own 10 % and 90 %. Shape ``(K, B, n)``."""
    centred = scores - scores.median(-1, keepdim=True).values
    ends = torch.tensor([0.1, 0.9], dtype=scores.dtype)
    low, high = centred.flatten(1).quantile(ends, dim=1)[..., None, None]  # (K, 1, 1) each
    return centred.clamp(low, high)


def of_the_first(scores: Tensor, values: Tensor) -> Tensor:
    """The value of the response that each arm puts first. Shapes ``(K, B, n)`` and ``(B, n)`` to ``(K, B)``."""
    return values.expand_as(scores).gather(-1, scores.argmax(-1, keepdim=True)).squeeze(-1)


def weighted(scores: Tensor, logprobs: Tensor, weights: Tensor) -> Tensor:
    """The covariance with each response counted by its weight, which is 0 for one that does not count.

    Args:
        scores: Shape ``(K, B, n)``.
        logprobs: Shape ``(B, n)``.
        weights: >= 0, some of each row positive. Shape ``(B, n)``.

    Returns:
        Shape ``(K, B)``.
    """
    weights = weights / weights.sum(-1, keepdim=True)
    about = scores - (weights * scores).sum(-1, keepdim=True)
    return (weights * about * (logprobs - (weights * logprobs).sum(-1, keepdim=True))).sum(-1)


def over_the_runner_up(scores: Tensor, likely: Tensor) -> Tensor:
    """How much higher the likeliest response is scored than the next distinct one; 0 where there is none.

    Args:
        scores: Shape ``(K, B, n)``.
        likely: Log-likelihoods, minus infinity for repetitions. Shape ``(B, n)``.

    Returns:
        Shape ``(K, B)``.
    """
    top = likely.topk(2, -1)
    first, second = (scores.gather(-1, top.indices[:, [i]].expand(len(scores), -1, -1)).squeeze(-1) for i in (0, 1))
    return (first - second).where(top.values[:, 1].isfinite(), 0.0)


def _each(relation: Callable[[Tensor, Tensor], Tensor], scores: Tensor, values: Tensor) -> Tensor:
    return torch.stack([relation(own, values) for own in scores])
