"""Disjoint LinUCB, the bandit of the paper."""

from __future__ import annotations

from torch import Tensor

from laser_pl.bandits.base import Explanation
from laser_pl.bandits.regressions import Regressions
from laser_pl.errors import ConfigurationError


class LinUCB(Regressions):
    r"""The arm of the largest expected reward plus alpha times its uncertainty, Li et al. 2010.

    It is :math:`\arg\max_k c^\top\theta_k + \alpha\sqrt{c^\top A_k^{-1} c}`, Algorithm 1 there. Each arm has its own
    ridge regression with :math:`A_k = I` and :math:`b_k = 0` at the start. Arms that are equally good are chosen with
    equal probability, where the authors of LASeR take the first; at the start, when all are equal, that would always be
    the same one.

    Args:
        alpha: How much uncertainty is worth, >= 0, in units of the reward. The paper's code has 0.1.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        if not alpha >= 0:
            raise ConfigurationError(f"alpha must be >= 0, got {alpha}. Set selection.bandit.alpha in the config.")
        self.alpha = alpha

    def opinion(self, contexts: Tensor) -> Explanation:
        """Expected reward and exploration bonus of every arm."""
        return Explanation(self.means(contexts), self.alpha * self.widths(contexts))
