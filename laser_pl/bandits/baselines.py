"""Ways to choose that learn nothing: the baselines a bandit has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from laser_pl.bandits.base import Bandit
from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps
from laser_pl.moved import former_names


class NonLearning(Bandit):
    """Has no expectations, so that it chooses after learning as it did before."""

    def without_exploring(self, contexts: Tensor) -> Tensor:
        """What it would choose anyway, and nobody else. Shape ``(M, 1)``."""
        return self.select(contexts)[:, None]


class Fixed(NonLearning):
    """Always the same arm: plain iterative DPO with one reward model.

    Args:
        arm: The arm's name; null takes the first.
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
                f"selection.bandit.arm is '{self.arm}'; the reward models are {', '.join(arms)}."
                + perhaps(closest(self.arm, arms), "Name one of them.")
            )

    def select(self, contexts: Tensor) -> Tensor:
        """The one arm, for every context."""
        return torch.full((len(contexts),), 0 if self.arm is None else self.arms.index(self.arm))

    def next_best(self, contexts: Tensor, available: Tensor) -> Tensor:
        """None: what was asked for is this arm and no other."""
        return torch.full((len(contexts),), -1)


class Uniform(NonLearning):
    """Any arm with equal probability (the paper's "random" baseline)."""

    def select(self, contexts: Tensor) -> Tensor:
        """An arm at random for every context."""
        return torch.randint(len(self.arms), (len(contexts),), generator=self.generator)


class RoundRobin(NonLearning):
    """One arm after the other (the paper's "sequential" baseline).

    Args:
        per: Whether the next arm's turn comes with each ``decision`` or with each ``iteration``.
    """

    def __init__(self, per: Literal["decision", "iteration"] = "decision") -> None:
        self.per = per

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin with the first arm."""
        super().start(arms, context_size, seed)
        self.decisions = 0
        self.iteration = 0

    def tell(self, iteration: int, categories: Sequence[str | None]) -> None:
        """Note the iteration."""
        self.iteration = iteration

    def select(self, contexts: Tensor) -> Tensor:
        """The next arms in turn."""
        first = self.decisions
        self.decisions += len(contexts)
        if self.per == "iteration":
            return torch.full((len(contexts),), self.iteration % len(self.arms))
        return torch.arange(first, self.decisions) % len(self.arms)

    def state_dict(self) -> dict[str, Any]:
        """How many decisions were made."""
        return {**super().state_dict(), "decisions": self.decisions}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after them."""
        super().load_state_dict(dict(state))
        self.decisions = state["decisions"]


class Oracle(NonLearning):
    """The right arm of each category, for worlds in which it is known. Where categories are mixed, any arm.

    Args:
        right: The arm of each category, by name.
    """

    def __init__(self, right: dict[str, str]) -> None:
        self.right = right
        self._categories: list[str | None] = []

    def check(self, arms: Sequence[str]) -> None:
        """Look the arms up.

        Raises:
            ConfigurationError: If there is no arm of such a name.
        """
        for category, arm in self.right.items():
            if arm not in arms:
                raise ConfigurationError(
                    f"selection.bandit.right names '{arm}' for '{category}'; the reward models are {', '.join(arms)}."
                    + perhaps(closest(arm, arms), "Name one of them.")
                )

    def tell(self, iteration: int, categories: Sequence[str | None]) -> None:
        """Note the categories.

        Raises:
            ConfigurationError: If nobody said which arm is right in one of them.
        """
        self.check_categories([category for category in categories if category is not None])
        self._categories = list(categories)

    def check_categories(self, categories: Sequence[str]) -> None:
        """See that somebody said which arm is right in each of them.

        Raises:
            ConfigurationError: If not.
        """
        for category in categories:
            if category not in self.right:
                raise ConfigurationError(
                    f"selection.bandit.right says nothing of the category '{category}', only of"
                    f" {', '.join(self.right) or 'none'}. Add its right reward model."
                )

    def select(self, contexts: Tensor) -> Tensor:
        """The right arms.

        Raises:
            ValueError: If other decisions were announced.
        """
        if len(self._categories) != len(contexts):
            raise ValueError(f"Oracle was given {len(self._categories)} decisions and is asked for {len(contexts)}.")
        anyone = torch.randint(len(self.arms), (len(contexts),), generator=self.generator)
        known = [-1 if name is None else self.arms.index(self.right[name]) for name in self._categories]
        right = torch.tensor(known, dtype=torch.long)
        return torch.where(right < 0, anyone, right)


__getattr__ = former_names(__name__, {"Unlearning": "NonLearning"})
