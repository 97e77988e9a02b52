"""A language model that compares two responses at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.data.templates import SandboxedText
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Weights
from laser_pl.rewards.judge import Judge, filled

COMPARE = """\
Below are a request and two responses to it.

Request:
{{ prompt }}

Response A:
{{ response_a }}

Response B:
{{ response_b }}

Which response serves the request better? Answer with A or B alone."""


class PairwiseJudge(Judge):
    """Scores a response by how often a language model prefers it to others.

    It is the mean of the model's probabilities. Every comparison is made in both orders, since models favour a place;
    the mean of the two is free of that. With all opponents it costs n (n - 1) forwards a prompt, with k of them 2 k n
    at most.

    Args:
        weights: The model.
        template: A Jinja template, in Jinja's sandbox. It sees ``prompt`` (a string), ``messages`` (the prompt as a
            chat), ``response_a``, ``response_b``, ``answer``, and every other column by its name.
        answers: What stands for the first response and for the second. Each must be one token of the model.
        opponents: How many others each response meets at least, the next ones in turn; null for all.
        **reading: How texts are read: ``chat_template``, ``max_length``, ``truncation`` and ``max_tokens_per_batch`` of
            ``LocalModel``.
    """

    def __init__(
        self,
        weights: Weights,
        template: str = COMPARE,
        answers: tuple[str, str] = ("A", "B"),
        opponents: int | None = 2,
        **reading: Any,
    ) -> None:
        if opponents is not None and opponents < 1:
            raise ConfigurationError(f"opponents must be >= 1, got {opponents}. Set it in the pairwise judge's config.")
        worth = dict(zip(answers, (1.0, 0.0), strict=True))
        super().__init__(weights, template, worth, **reading)
        self.opponents = opponents

    def forwards_per_response(self, n: int) -> float:
        """Two for each comparison, shared by its two responses."""
        return 2.0 * len(schedule(n, self.opponents)) / n

    def texts(self, prompt: Prompt, responses: Sequence[str]) -> list[str]:
        """Two questions for each comparison, one in either order."""
        return both_orders(self.template, prompt, responses, schedule(len(responses), self.opponents))

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """The mean probability of being preferred. Shape ``(B, n)``, float32 or wider; NaN for an only response."""
        n = len(responses[0])
        texts = [text for prompt, row in zip(prompts, responses, strict=True) for text in self.texts(prompt, row)]
        if not texts:
            return torch.full((len(prompts), n), float("nan"))
        return standings(self.expected_worth(texts).view(len(prompts), -1, 2), schedule(n, self.opponents), n)


def schedule(n: int, opponents: int | None) -> list[tuple[int, int]]:
    """Who meets whom: everybody the next ``opponents`` in a circle, each two once.

    >>> schedule(4, 1)
    [(0, 1), (1, 2), (2, 3), (0, 3)]
    >>> len(schedule(5, None))
    10
    """
    rounds = n - 1 if opponents is None else min(opponents, n - 1)
    met: dict[tuple[int, int], None] = {}
    for distance in range(1, rounds + 1):
        for one in range(n):
            other = (one + distance) % n
            met.setdefault((min(one, other), max(one, other)))
    return list(met)


def both_orders(
    template: SandboxedText, prompt: Prompt, responses: Sequence[str], games: Sequence[tuple[int, int]]
) -> list[str]:
    """The template filled twice for each game, once in either order."""
    return [
        filled(template, prompt, response_a=responses[a], response_b=responses[b])
        for one, other in games
        for a, b in ((one, other), (other, one))
    ]


def standings(first: Tensor, games: Sequence[tuple[int, int]], n: int) -> Tensor:
    """How often each response is preferred, over its games.

    Args:
        first: How often the response that was shown first is preferred, in either order of each game; NaN where nobody
            said. A game counts only with both, since one order alone favours a place. Shape ``(B, games, 2)``.
        games: Who met whom.
        n: Responses to a prompt.

    Returns:
        Shape ``(B, n)``; NaN for whoever has no game that counts.

    >>> standings(torch.tensor([[[0.75, 0.25], [1.0, float("nan")]]]), [(0, 1), (1, 2)], 3)
    tensor([[0.7500, 0.2500,    nan]])
    """
    won = (first[..., 0] + 1 - first[..., 1]) / 2  # (B, games)  of the first of each game, over both orders
    counts = (~won.isnan()).to(won.dtype)
    won = won.nan_to_num()
    ones, others = torch.tensor(games).T

    def per_response(of_ones: Tensor, of_others: Tensor) -> Tensor:
        return won.new_zeros(len(won), n).index_add(1, ones, of_ones).index_add(1, others, of_others)

    return per_response(won, counts - won) / per_response(counts, counts)
