"""The simplest exploration: now and then, anyone."""

from __future__ import annotations

import torch
from torch import Tensor

from laser_pl.bandits.base import Explanation
from laser_pl.bandits.regressions import Regressions
from laser_pl.errors import ConfigurationError


class EpsilonGreedy(Regressions):
    """The arm of the largest expected reward, but any arm with probability epsilon.

    It expects what LinUCB expects, so that the two differ in how they explore and in nothing else.

    Args:
        epsilon: The probability of a choice at random, in [0, 1].
    """

    def __init__(self, epsilon: float = 0.1) -> None:
        if not 0 <= epsilon <= 1:
            raise ConfigurationError(f"epsilon must be in [0, 1], got {epsilon}. Set selection.bandit.epsilon.")
        self.epsilon = epsilon

    def select(self, contexts: Tensor) -> Tensor:
        """The best arm or any, decided for every context by itself."""
        best = super().select(contexts)
        explores = torch.rand(len(contexts), generator=self.generator) < self.epsilon
        anyone = torch.randint(len(self.arms), (len(contexts),), generator=self.generator)
        return torch.where(explores, anyone, best)

    def opinion(self, contexts: Tensor) -> Explanation:
        """Expected reward; exploration prefers nobody."""
        mean = self.means(contexts)
        return Explanation(mean, torch.zeros_like(mean))
