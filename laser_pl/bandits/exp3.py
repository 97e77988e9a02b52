"""Exponential weights for rewards that an adversary might choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.base import Explanation
from laser_pl.bandits.rivalry import Rivalry
from laser_pl.errors import ConfigurationError


class Exp3(Rivalry):
    r"""Draws an arm by weights that rewards multiply, whatever the context, Auer et al. 2002.

    It draws from :math:`p_k = (1 - \gamma) w_k / \sum_j w_j + \gamma / K`. A reward x in [0, 1] multiplies the weight
    of the arm it is about by :math:`\exp(\gamma x / (K q_k))`. There :math:`q_k = p_k / \sum_{j \in R} p_j` is the
    chance that this arm was observed and none of its other rivals R, the arms that could have been observed in its
    place. A chosen arm's rivals are all that could be asked, so that :math:`q_k = p_k` where nobody is aside. One that
    was asked after others distinguished nothing has those for rivals that were left, so that each asking counts as a
    round of its own. One that was seen since all were asked has none: :math:`q_k = 1`, whether all answered or not.
    Then :math:`x / q_k`, and 0 for who was not observed, is unbiased for every arm. What could be observed of one arm
    alone (that it distinguished nothing, where the signal measures nobody's judgement) is no round, and changes
    nothing. Rewards that come together are weighed by the probabilities at their choice.

    Args:
        gamma: Share of choices at random, in (0, 1].
        low: The reward that becomes 0.
        high: The reward that becomes 1; what lies outside is clipped.
    """

    def __init__(self, gamma: float = 0.1, low: float = -1.0, high: float = 1.0) -> None:
        if not 0 < gamma <= 1:
            raise ConfigurationError(f"gamma must be in (0, 1], got {gamma}. Set selection.bandit.gamma in the config.")
        if not low < high:
            raise ConfigurationError(
                f"low must be below high, got {low} and {high}. Set selection.bandit.low and high."
            )
        self.gamma = gamma
        self.low = low
        self.high = high

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin with equal weights."""
        super().start(arms, context_size, seed)
        self.log_weights = torch.zeros(len(self.arms), dtype=torch.float64)

    @property
    def probabilities(self) -> Tensor:
        """Of every arm. Shape ``(K,)``."""
        return (1 - self.gamma) * self.log_weights.softmax(-1) + self.gamma / len(self.arms)

    def select(self, contexts: Tensor) -> Tensor:
        """Draws, one for every context."""
        self.chosen_at = contexts.clone()
        chance = self.probabilities.expand(len(contexts), -1)
        return torch.multinomial(chance, 1, generator=self.generator).squeeze(-1)

    def next_best(self, contexts: Tensor, available: Tensor) -> Tensor:
        """Draws among those that are left."""
        left = self.probabilities * available  # (M, K)
        left[~available.any(-1)] = 1.0
        drawn = torch.multinomial(left, 1, generator=self.generator).squeeze(-1)
        return torch.where(available.any(-1), drawn, -1)

    def learn(self, contexts: Tensor, arms: Tensor, rewards: Tensor, rivals: Tensor) -> None:
        """Multiply the weights."""
        gains = ((rewards.double() - self.low) / (self.high - self.low)).clamp(0, 1)
        chance = self.probabilities[arms] / (rivals * self.probabilities).sum(-1)  # (O,)  q; infinite without a round
        steps = self.gamma / len(self.arms) * gains / chance
        self.log_weights = self.log_weights.index_add(0, arms, steps)
        self.log_weights = self.log_weights - self.log_weights.max()  # the same probabilities, and no overflow

    def explain(self, contexts: Tensor) -> Explanation:
        """Probabilities, and no bonus."""
        mean = self.probabilities.expand(len(contexts), -1)
        return Explanation(mean, torch.zeros_like(mean))

    def state_dict(self) -> dict[str, Any]:
        """Logarithms of the weights, by the arm's name."""
        weights = dict(zip(self.arms, self.log_weights.tolist(), strict=True))
        return {**super().state_dict(), "log_weights": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up those of the arms that are still there; a new one starts with the best of them."""
        super().load_state_dict(state)
        known = {arm: weight for arm, weight in state["log_weights"].items() if arm in self.arms}
        best = max(known.values(), default=0.0)
        self.log_weights = torch.tensor([known.get(arm, best) for arm in self.arms], dtype=torch.float64)
        self.chosen_at = None
