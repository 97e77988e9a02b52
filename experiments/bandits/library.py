"""The library's own bandits side by side, where those of ``crowd.py`` only think the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from crowd import Crowd
from torch import Tensor

from laser_pl.bandits import Bandit


class Library(Crowd):
    """One bandit for each seed, asked one after the other.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], Bandit]) -> None:
        self.make = make

    def start(self, seeds: int, arms: int, size: int, generator: torch.Generator) -> None:
        """Begin without knowledge; each bandit's seed is drawn."""
        super().start(seeds, arms, size, generator)
        self.bandits = [self.make() for _ in range(seeds)]
        drawn = torch.randint(2**31, (seeds,), generator=generator).tolist()
        for bandit, seed in zip(self.bandits, drawn, strict=True):
            bandit.start([f"arm {k}" for k in range(arms)], size, seed)

    def select(self, contexts: Tensor) -> Tensor:
        """What each chooses."""
        return torch.cat([bandit.select(own[None]) for bandit, own in zip(self.bandits, contexts, strict=True)])

    def update(self, contexts: Tensor, chosen: Tensor, rewards: Tensor) -> None:
        """Each learns its own reward."""
        for seed, bandit in enumerate(self.bandits):
            own = slice(seed, seed + 1)
            bandit.update(contexts[own], chosen[own], rewards[own])
