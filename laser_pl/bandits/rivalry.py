"""For bandits to which it matters how an observation came about: because its arm was chosen, or all were asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.bandits.base import Bandit


class Rivalry(Bandit):
    """Learns with the rivals of every observation, and guesses them where nobody says who they were."""

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin without a choice."""
        super().start(arms, context_size, seed)
        self.chosen_at: Tensor | None = None  # (M, d)  the contexts of the last choice

    @abstractmethod
    def learn(self, contexts: Tensor, arms: Tensor, rewards: Tensor, rivals: Tensor) -> None:
        """Learn from rewards, knowing how each came about."""

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Learn from rewards of which nobody says how they came about."""
        self.learn(contexts, arms, rewards, self.guessed_rivals(contexts, arms))

    def guessed_rivals(self, contexts: Tensor, arms: Tensor) -> Tensor:
        """Nobody else where more was observed at a context than was chosen there, or every arm; anyone elsewhere.

        Args:
            contexts: Shape ``(O, d)``; those without features are all the same.
            arms: Shape ``(O,)``.

        Returns:
            As for ``learn``. Shape ``(O, K)``, bool.
        """
        count = len(self.arms)
        rivals = torch.ones(len(arms), count, dtype=torch.bool)
        for group in positions_by_context(contexts):
            if self.chosen_at is None:
                all_asked = len(group) > 1 and len(set(arms[group].tolist())) == count
            else:
                choices = int((self.chosen_at == contexts[group[0]]).all(-1).sum())
                all_asked = len(group) > max(1, choices)
            if all_asked:
                rivals[group] = torch.nn.functional.one_hot(arms[group], count).bool()
        return rivals


def positions_by_context(contexts: Tensor) -> list[list[int]]:
    """Which observations are about one context.

    Args:
        contexts: Shape ``(O, d)``.

    >>> positions_by_context(torch.tensor([[1.0], [2.0], [1.0]]))
    [[0, 2], [1]]
    """
    groups: dict[tuple[float, ...], list[int]] = {}
    for place, context in enumerate(contexts.tolist()):
        groups.setdefault(tuple(context), []).append(place)
    return list(groups.values())
