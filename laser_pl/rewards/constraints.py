"""Reward models that only forbid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.rewards.base import RewardModel


@dataclass
class Constraint:
    """What a response must reach to be chosen, whichever arm judges (safety, format, language).

    A response that fails may still be rejected in a pair. One without a score fails: what is not known to be allowed is
    not.

    Attributes:
        reward_model: Scores responses.
        threshold: The score that must be reached.
    """

    reward_model: RewardModel
    threshold: float = 0.0


class Verdicts:
    """How many responses each constraint looked at and how many failed, by category."""

    def __init__(self) -> None:
        self.looked_at: dict[str, Counter[str]] = {}
        self.failed: dict[str, Counter[str]] = {}

    def note(self, name: str, prompts: Sequence[Prompt], passed: Tensor) -> None:
        """Take in a batch. ``passed`` has shape ``(B, n)``, bool."""
        looked_at, failed = (counts.setdefault(name, Counter()) for counts in (self.looked_at, self.failed))
        for prompt, row in zip(prompts, passed, strict=True):
            looked_at[prompt.category] += len(row)
            failed[prompt.category] += int((~row).sum())

    def as_dict(self) -> dict[str, dict[str, dict[str, int]]]:
        """Constraint to category to counts."""
        return {
            name: {
                category: {"responses": count, "failed": self.failed[name][category]}
                for category, count in sorted(counts.items())
            }
            for name, counts in self.looked_at.items()
        }

    def load(self, counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        """Go on from what ``as_dict`` gave."""
        for name, categories in counts.items():
            self.looked_at[name] = Counter({category: c["responses"] for category, c in categories.items()})
            self.failed[name] = Counter({category: c["failed"] for category, c in categories.items()})
