"""What says how right a response is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import cast

from laser_pl.batches import Prompt
from laser_pl.moved import former_names, renamed


class Grader(ABC):
    """Gives a response to a prompt with a reference answer a grade from 0 (wrong) to 1 (right).

    Attributes:
        right_from: The grade from which a response counts as right where only right and wrong are distinguished.
    """

    right_from: float = 1.0

    @abstractmethod
    def grade(self, response: str, prompt: Prompt) -> float:
        """How right ``response`` is, in [0, 1]; ``prompt`` has an answer."""

    def is_right(self, response: str, prompt: Prompt) -> bool:
        """Whether it is right."""
        return self.grade(response, prompt) >= self.right_from

    def parsed_answer(self, response: str, prompt: Prompt) -> Hashable:
        """What ``response`` answers, in a form in which equal answers are equal; None where it answers nothing."""
        former = getattr(self, "said", None)
        if former is None:
            return response.strip()
        renamed(f"{type(self).__name__}.said", "parsed_answer")
        return cast(Hashable, former(response, prompt))

    def reads_answer(self, prompt: Prompt) -> bool:
        """Whether the prompt's reference answer can be read; to one that cannot be, no response is right."""
        return True

    def name_of(self, category: str) -> str:
        """What the grade of prompts of a category is called."""
        return type(self).__name__

    def check(self, categories: Sequence[str]) -> None:
        """Raise a ConfigurationError if prompts of one of these categories cannot be graded."""


def divided(grader: Grader, responses: Sequence[str], prompt: Prompt) -> list[bool] | None:
    """Which responses are right, where some are and some are not; None where they say nothing of who knows better.

    Args:
        grader: Knows which are right.
        responses: Shape ``(n,)``.
        prompt: What they answer; one without an answer divides nothing.
    """
    if prompt.answer is None:
        return None
    right = [grader.is_right(response, prompt) for response in responses]
    return right if any(right) and not all(right) else None


def majority_answer(grader: Grader, responses: Sequence[str], prompt: Prompt) -> int | None:
    """Which response says what most of them say: the first that says it; of equally frequent answers, the first said.

    Args:
        grader: Knows which of them say the same.
        responses: Shape ``(n,)``.
        prompt: What they answer.

    Returns:
        Its index; None if none says anything.
    """
    said = [grader.parsed_answer(response, prompt) for response in responses]
    counts = Counter(answer for answer in said if answer is not None)
    return said.index(counts.most_common(1)[0][0]) if counts else None


__getattr__ = former_names(__name__, {"most_said": "majority_answer"})
