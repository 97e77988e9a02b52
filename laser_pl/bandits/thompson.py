"""Linear Thompson sampling, the bandit of BayesianRouter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.base import Explanation, argmax_with_random_ties
from laser_pl.bandits.regressions import Regressions
from laser_pl.errors import ConfigurationError


class Thompson(Regressions):
    r"""Draws what each arm may be worth and takes the best, Algorithm 1 of Agrawal and Goyal 2013.

    With the posterior :math:`\theta_k \sim N(A_k^{-1} b_k, v^2 A_k^{-1})` an arm's worth at a context is one number,
    :math:`c^\top\theta_k \sim N(c^\top A_k^{-1} b_k, v^2 c^\top A_k^{-1} c)`, which is drawn anew for every context.

    A prior says what an arm is worth before anything is known, anywhere: :math:`m_k + c^\top\theta_k`, where the
    regression learns what the prior misses. So it fades as the arm is tried. BayesianRouter (arXiv 2510.02850) learns
    it offline, from how often each reward model is right on labelled pairs.

    Args:
        spread: v, >= 0, in units of the reward; 0 is greedy.
        prior: :math:`m_k` by the arm's name; 0 for arms that it does not name.
    """

    def __init__(self, spread: float = 0.5, prior: dict[str, float] | None = None) -> None:
        if not spread >= 0:
            raise ConfigurationError(f"spread must be >= 0, got {spread}. Set selection.bandit.spread in the config.")
        self.spread = spread
        self.prior = prior or {}

    def check(self, arms: Sequence[str]) -> None:
        """Look the prior's arms up.

        Raises:
            ConfigurationError: If there is no arm of such a name.
        """
        for arm in self.prior:
            if arm not in arms:
                raise ConfigurationError(
                    f"selection.bandit.prior names '{arm}'; the reward models are {', '.join(arms)}. Name those."
                )

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin with the prior."""
        super().start(arms, context_size, seed)
        self._before = torch.tensor([self.prior.get(arm, 0.0) for arm in self.arms], dtype=torch.float64)  # (K,)
        self._drawn: tuple[Tensor, Explanation] | None = None  # the last question, until it is asked anew or learned

    def select(self, contexts: Tensor) -> Tensor:
        """The arm that is best in the draw, for every context. The next question gets another draw."""
        explanation = self.explain(contexts)
        self._drawn = None
        return argmax_with_random_ties(explanation.mean + explanation.bonus, self.generator)

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Learn what the prior missed."""
        self._drawn = None
        super().update(contexts, arms, rewards - self._before[arms])

    def explain(self, contexts: Tensor) -> Explanation:
        """Expected reward, and what the draw adds to it; what is explained is what will be selected."""
        contexts = contexts.double()
        if self._drawn is None or not torch.equal(self._drawn[0], contexts):
            mean, width = self._before + self.means(contexts), self.widths(contexts)
            noise = torch.randn(mean.shape, generator=self.generator, dtype=torch.float64)
            self._drawn = contexts.clone(), Explanation(mean, self.spread * width * noise)
        return self._drawn[1]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""
        super().load_state_dict(state)
        self._drawn = None
