"""Right or wrong: the response's final answer against the reference answer."""

from __future__ import annotations

from collections.abc import Sequence

from laser_pl.batches import Prompt
from laser_pl.metrics.matchers import Exact, Matcher
from laser_pl.rewards.base import RewardModel


class Verifier(RewardModel):
    """Scores 1 for a response that gives the reference answer, and 0 for one that does not.

    It has no opinion where there is no answer. Nothing that a response says is run: matchers read numbers, letters and
    words.

    Args:
        matcher: Decides whether a response gives the reference answer.
    """

    def __init__(self, matcher: Matcher = Exact()) -> None:  # noqa: B008 - stateless
        self.matcher = matcher

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """1, 0 or None for each response: ``B`` lists of ``n``."""
        return [
            [None if prompt.answer is None else float(self.matcher.matches(text, prompt.answer)) for text in row]
            for prompt, row in zip(prompts, responses, strict=True)
        ]
