"""How right a response is: its answer against the reference answer."""

from __future__ import annotations

from collections.abc import Sequence

from laser_pl.batches import Prompt
from laser_pl.metrics.grader import Grader
from laser_pl.metrics.matchers import Exact
from laser_pl.rewards.base import RewardModel


class Verifier(RewardModel):
    """Scores a response by its grade against the reference answer, in [0, 1].

    A matcher gives 1 or 0, a graded metric what lies between as well. It has no opinion where there is no answer.
    Nothing that a response says is run: matchers read numbers, letters and words.

    Args:
        matcher: Grades responses; null: ``model.matcher``, or ``Exact`` where there is no policy.
    """

    def __init__(self, matcher: Grader | None = None) -> None:
        self.matcher = matcher
        self._grader = matcher or Exact()

    def grade_by(self, grader: Grader) -> None:
        """Take it, unless it was given one to use."""
        self._grader = self.matcher or grader

    def check_categories(self, categories: Sequence[str]) -> None:
        """See that the matcher can grade them all."""
        self._grader.check(categories)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """Grades in [0, 1], or None: ``B`` lists of ``n``."""
        return [
            [None if prompt.answer is None else self._grader.grade(text, prompt) for text in row]
            for prompt, row in zip(prompts, responses, strict=True)
        ]
