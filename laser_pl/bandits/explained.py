"""Bandits that take what they can explain: the arm of the largest mean + bonus."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.aligned import aligned
from laser_pl.bandits.base import Bandit, Explanation, argmax_with_random_ties


class Explained(Bandit):
    """Asked for its reasons and then for its choice, it thinks once: it remembers until it learns something."""

    @abstractmethod
    def opinion(self, contexts: Tensor) -> Explanation:
        """Mean and bonus of every arm, thought out anew. Contexts of shape ``(M, d)``, float64."""

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin without a memory."""
        super().start(arms, context_size, seed)
        self.forget()

    def forget(self) -> None:
        """Let the next question be thought out anew."""
        self._remembered: tuple[Tensor, Explanation] | None = None

    def explain(self, contexts: Tensor) -> Explanation:
        """Mean and bonus of every arm; of the same contexts as before, what was said before."""
        contexts = aligned(contexts)
        if self._remembered is None or not torch.equal(self._remembered[0], contexts):
            self._remembered = contexts, self.opinion(contexts)
        return self._remembered[1]

    def select(self, contexts: Tensor) -> Tensor:
        """The arm of the largest mean + bonus, for every context."""
        why = self.explain(contexts)
        return argmax_with_random_ties(why.mean + why.bonus, self.generator)

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Forget; what is learned is the subclass's."""
        self.forget()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Forget, and take up what was learned."""
        super().load_state_dict(state)
        self.forget()
