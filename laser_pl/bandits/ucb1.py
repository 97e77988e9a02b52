"""Upper confidence bounds without context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.base import Explanation
from laser_pl.bandits.explained import Explained
from laser_pl.errors import ConfigurationError

UNTRIED = 1e6
"""Bonus of an arm without a reward: each is tried before any is tried again, and it can be written as JSON."""


class UCB1(Explained):
    r"""The arm of the largest upper bound on its mean reward at any context, Auer et al. 2002.

    It is :math:`\arg\max_k \bar r_k + s\sqrt{2 \ln t / n_k}`.

    Args:
        scale: Width s > 0 of the rewards' range. 1 for rewards in [0, 1], 2 for those in [-1, 1].
    """

    def __init__(self, scale: float = 2.0) -> None:
        if not scale > 0:
            raise ConfigurationError(f"scale must be > 0, got {scale}. Set selection.bandit.scale in the config.")
        self.scale = scale

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin without a reward."""
        super().start(arms, context_size, seed)
        self.counts = torch.zeros(len(self.arms), dtype=torch.float64)
        self.sums = torch.zeros(len(self.arms), dtype=torch.float64)

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Add the rewards up."""
        super().update(contexts, arms, rewards)
        self.counts.index_add_(0, arms, torch.ones_like(rewards, dtype=torch.float64))
        self.sums.index_add_(0, arms, rewards.double())

    def opinion(self, contexts: Tensor) -> Explanation:
        """Mean reward and bonus of every arm."""
        tried = self.counts.clamp(min=1)
        bonus = self.scale * (2 * self.counts.sum().clamp(min=1).log() / tried).sqrt()
        bonus = torch.where(self.counts > 0, bonus, UNTRIED)
        size = len(contexts), len(self.arms)
        return Explanation((self.sums / tried).expand(size), bonus.expand(size))

    def state_dict(self) -> dict[str, Any]:
        """Number and sum of rewards, by the arm's name."""
        counts = dict(zip(self.arms, self.counts.tolist(), strict=True))
        return {**super().state_dict(), "counts": counts, "sums": dict(zip(self.arms, self.sums.tolist(), strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up those of the arms that are still there."""
        super().load_state_dict(state)
        self.counts = torch.tensor([state["counts"].get(arm, 0.0) for arm in self.arms], dtype=torch.float64)
        self.sums = torch.tensor([state["sums"].get(arm, 0.0) for arm in self.arms], dtype=torch.float64)
