"""Ways to choose that learn nothing: the baselines a bandit has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.base import Bandit
from laser_pl.errors import ConfigurationError


class Fixed(Bandit):
    """Always the same arm: plain iterative DPO with one reward model.

    Args:
        arm: Its name; null takes the first.
    """

    def __init__(self, arm: str | None = None) -> None:
        self.arm = arm

    def check(self, arms: Sequence[str]) -> None:
        """Look the arm up.

        Raises:
            ConfigurationError: If there is no arm of that name.
        """
        if self.arm is not None and self.arm not in arms:
            raise ConfigurationError(
                f"selection.bandit.arm is '{self.arm}'; the reward models are {', '.join(arms)}. Name one of them."
            )

    def select(self, contexts: Tensor) -> Tensor:
        """The one arm, for every context."""
        return torch.full((len(contexts),), 0 if self.arm is None else self.arms.index(self.arm))

    def next_best(self, contexts: Tensor, available: Tensor) -> Tensor:
        """None: what was asked for is this arm and no other."""
        return torch.full((len(contexts),), -1)


class Uniform(Bandit):
    """Any arm with equal probability (the paper's "random" baseline)."""

    def select(self, contexts: Tensor) -> Tensor:
        """An arm at random for every context."""
        return torch.randint(len(self.arms), (len(contexts),), generator=self.generator)


class RoundRobin(Bandit):
    """One arm after the other (the paper's "sequential" baseline), one per decision."""

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin with the first arm."""
        super().start(arms, context_size, seed)
        self.decisions = 0

    def select(self, contexts: Tensor) -> Tensor:
        """The next arms in turn."""
        first = self.decisions
        self.decisions += len(contexts)
        return torch.arange(first, self.decisions) % len(self.arms)

    def state_dict(self) -> dict[str, Any]:
        """How many decisions were made."""
        return {**super().state_dict(), "decisions": self.decisions}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after them."""
        super().load_state_dict(dict(state))
        self.decisions = state["decisions"]
