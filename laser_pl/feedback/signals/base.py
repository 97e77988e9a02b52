"""What every signal offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, Prompt, PromptLosses, RolloutBatch
from laser_pl.feedback.observations import Observations
from laser_pl.feedback.queries import Queries


class Signal(ABC):
    """Measures arms on a batch that was just trained.

    Attributes:
        part: ``loss`` or the part of it that this signal is made of; None if it is made of something else.
        of_pairs: Whether it looks at the pairs that were trained.
        measures_accuracy: Whether its values are shares of right and wrong responses that an arm ordered rightly.
        takes_labels: Whether it learns from responses that people have compared, before training.
    """

    part: ClassVar[str | None] = None
    of_pairs: ClassVar[bool] = False
    measures_accuracy: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = False

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names, in the order of their indices."""

    def check(self, categories: Sequence[str]) -> None:
        """Raise a ConfigurationError if it cannot measure on prompts of one of these categories."""

    def follow(self, seed: int) -> None:
        """Take the run's seed as the root of what is chosen by chance; most signals choose nothing."""

    def learn_labels(self, prompts: Sequence[Prompt], accuracy: Tensor, pairs: Tensor) -> None:
        """Take in what the arms made of responses that people have compared; only if it ``takes_labels``.

        Args:
            prompts: ``L`` prompts.
            accuracy: Share of pairs of a better and a worse response that each arm ordered rightly; NaN where it has no
                opinion. Shape ``(L, K)``, float64.
            pairs: How many such pairs there are. Shape ``(L,)``, int64.
        """

    def polled(self, prompts: Sequence[Prompt]) -> list[int]:
        """On which of the prompts it may ask every reward model; it is told, for a plan, before they are answered."""
        return []

    @abstractmethod
    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """What this batch says.

        Args:
            batch: The labelled batch.
            losses: The training loss of each prompt.
            ask: For what the batch does not hold.
        """

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        """What it would measure of a reward model that scores at random, for each prompt; known before anybody scores.

        An arm that was asked and distinguished nothing is taken to have done as well.

        Returns:
            Shape ``(B,)``; zeros for differences that are as often above 0 as below.
        """
        return torch.zeros(len(batch), dtype=torch.float64)

    def silence(self, prompts: Sequence[Prompt]) -> str:
        """Why it observed nothing in a whole iteration with these prompts."""
        return "no step was trained on pairs"

    def findings(self) -> list[dict[str, Any]]:
        """What is known of the arms by category, as lines of ``answers.jsonl``; nothing for most signals."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """What was learned; nothing for most signals."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""
