"""A reward model that fails on purpose, and keeps a ledger of how."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

import torch

from laser_pl.batches import Prompt
from laser_pl.rewards import SequenceClassifier
from laser_pl.rewards.base import RewardModel

KINDS = ["none", "nan", "infinite", "timeout", "exception"]
"""What it injects: the kinds in which the pool counts missing labels."""

LEDGER: dict[str, Counter[str]] = {}
"""Responses it left without a label, by name and kind."""

CALLS: dict[str, Counter[str]] = {}
"""Calls with such a fault, and sound ones, by name and kind."""


class Faulty(RewardModel):
    """A sequence classifier that with probability ``rate`` gives one kind of nonsense, for some responses or for all.

    Args:
        name: Under which it is in the ledger.
        classifier: Scores when there is no fault.
        rate: Probability that a call has a fault.
        seed: Of the faults; each kind is as likely as the others.
        seconds: How long it waits before it reports a time-out.
    """

    def __init__(
        self, name: str, classifier: SequenceClassifier, rate: float, seed: int = 0, seconds: float = 0.01
    ) -> None:
        self.name = name
        self.classifier = classifier
        self.rate = rate
        self.seconds = seconds
        self.random = random.Random(f"{seed} {name}")
        LEDGER[name], CALLS[name] = Counter(), Counter()

    def check(self) -> None:
        """As the classifier."""
        self.classifier.check()

    def size(self) -> int:
        """As the classifier."""
        return self.classifier.size()

    def load(self, device: torch.device) -> None:
        """As the classifier."""
        self.classifier.load(device)

    def unload(self) -> None:
        """As the classifier."""
        self.classifier.unload()

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """The classifier's scores, or what is left of them.

        Raises:
            RuntimeError: At times.
            TimeoutError: At times.
        """
        count = sum(len(row) for row in responses)
        if self.random.random() >= self.rate:
            CALLS[self.name]["sound"] += 1
            return self.classifier.score(prompts, responses).tolist()
        kind = self.random.choice(KINDS)
        CALLS[self.name][kind] += 1
        if kind in ("timeout", "exception"):
            LEDGER[self.name][kind] += count
            if kind == "timeout":
                time.sleep(self.seconds)
                raise TimeoutError(f"no answer within {self.seconds} seconds, on purpose")
            raise RuntimeError("failed on purpose")
        scores: list[list[float | None]] = self.classifier.score(prompts, responses).tolist()
        # Some responses, or now and then every one, so that a whole call can come to nothing this way too.
        share = self.random.choice([0.2, 0.5, 1.0])
        for row in scores:
            for column in range(len(row)):
                if self.random.random() < share:
                    row[column] = self._nonsense(kind)
                    LEDGER[self.name][kind] += 1
        return scores

    def _nonsense(self, kind: str) -> float | None:
        if kind == "none":
            return None
        return float("nan") if kind == "nan" else self.random.choice([float("inf"), float("-inf")])
