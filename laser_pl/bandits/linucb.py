"""Disjoint LinUCB, the bandit of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.base import Explanation, argmax_with_random_ties
from laser_pl.bandits.regressions import Regressions
from laser_pl.errors import ConfigurationError


class LinUCB(Regressions):
    r"""Chooses :math:`\arg\max_k c^\top\theta_k + \alpha\sqrt{c^\top A_k^{-1} c}`, Algorithm 1 of Li et al. 2010.

    Each arm has its own ridge regression with :math:`A_k = I` and :math:`b_k = 0` at the start. Arms that are equally
    good are chosen with equal probability, where the authors of LASeR take the first; at the start, when all are equal,
    that would always be the same one.

    Args:
        alpha: How much uncertainty is worth, >= 0, in units of the reward. The paper's code has 0.1.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        if not alpha >= 0:
            raise ConfigurationError(f"alpha must be >= 0, got {alpha}. Set selection.bandit.alpha in the config.")
        self.alpha = alpha

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin with a ridge regression per arm that knows nothing."""
        super().start(arms, context_size, seed)
        self._explained: tuple[Tensor, Explanation] | None = None  # the last question, until something is learned

    def select(self, contexts: Tensor) -> Tensor:
        """The arm with the largest upper confidence bound, for every context."""
        explanation = self.explain(contexts)
        return argmax_with_random_ties(explanation.mean + explanation.bonus, self.generator)

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Learn each reward in its arm's model, in order."""
        self._explained = None
        super().update(contexts, arms, rewards)

    def explain(self, contexts: Tensor) -> Explanation:
        """Expected reward and exploration bonus of every arm; asked again about the same contexts, it remembers."""
        contexts = contexts.double()
        if self._explained is None or not torch.equal(self._explained[0], contexts):
            explanation = Explanation(self.means(contexts), self.alpha * self.widths(contexts))
            self._explained = contexts.clone(), explanation
        return self._explained[1]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the regressions of the arms that are still there; a new arm starts fresh."""
        super().load_state_dict(state)
        self._explained = None
