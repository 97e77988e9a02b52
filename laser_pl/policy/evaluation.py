"""How right a policy's responses are: its likeliest one, its samples, and what most of its samples say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.metrics.accuracy import CategoryAccuracy
from laser_pl.metrics.grader import Grader, majority_answer

MAJORITY_FROM = 3
"""Samples of which a majority is reported; of fewer it is the first one's word."""


class Evaluation:
    """Mean grades by category.

    Args:
        grader: Says how right a response is.
        categories: Every category that can occur.
        n: Samples of each prompt.
        device: Where processes exchange what they counted.

    Attributes:
        accuracy: By kind: ``greedy``, ``sampled``, and from three samples on ``majority``, the grade of the response
            that says what most samples of its prompt say.
    """

    def __init__(self, grader: Grader, categories: Sequence[str], n: int, device: torch.device) -> None:
        grader.check(categories)
        self.grader = grader
        self.device = device
        kinds = ("greedy", "sampled", *(["majority"] if n >= MAJORITY_FROM else []))
        self.accuracy = {kind: CategoryAccuracy(categories).to(device) for kind in kinds}

    def count(self, kind: str, prompt: Prompt, texts: Sequence[str]) -> None:
        """Grade the responses to a prompt; one without an answer is passed over.

        Args:
            kind: ``greedy`` or ``sampled``.
            prompt: What they answer.
            texts: Shape ``(n,)``.
        """
        if prompt.answer is None:
            return
        grades = [self.grader.grade(text, prompt) for text in texts]
        self._note(kind, prompt.category, grades)
        if kind == "sampled" and "majority" in self.accuracy:
            place = majority_answer(self.grader, texts, prompt)
            self._note("majority", prompt.category, [0.0 if place is None else grades[place]])

    def _note(self, kind: str, category: str, grades: Sequence[float]) -> None:
        self.accuracy[kind].update(category, torch.tensor(grades, dtype=torch.float64, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """``<kind>/<category>`` and ``<kind>/average``, over all processes."""
        found: dict[str, Tensor] = {}
        for kind, accuracy in self.accuracy.items():
            if not accuracy.update_called:  # here, but elsewhere
                self._note(kind, accuracy.categories[0], [])
            found |= {f"{kind}/{name}": value for name, value in accuracy.compute().items()}
        return found
