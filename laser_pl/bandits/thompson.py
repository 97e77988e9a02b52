"""Linear Thompson sampling, the bandit of BayesianRouter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from laser_pl.bandits.base import Explanation
from laser_pl.bandits.levelled_ridge import LevelledRidge
from laser_pl.bandits.regressions import Regressions
from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps


class Thompson(Regressions):
    r"""Draws what each arm may be worth and takes the best, Agrawal and Goyal 2013, Algorithm 1.

    With the posterior :math:`\theta_k \sim N(A_k^{-1} b_k, v^2 A_k^{-1})` an arm's worth at a context is one number,
    :math:`c^\top\theta_k \sim N(c^\top A_k^{-1} b_k, v^2 c^\top A_k^{-1} c)`, which is drawn anew for every context.
    Those asked about together do not share one :math:`\theta_k`: a batch explores as its contexts would one by one.

    A prior says what an arm is worth before anything is known, anywhere. The worth is then
    :math:`\mu_k + c^\top\theta_k` with a level :math:`\mu_k \sim N(m_k, v^2 / n_0)`, as if ``n_0`` rewards of ``m_k``
    had been seen. The level is learned with the rest, so that a wrong prior fades at every context as the arm is tried;
    were ``m_k`` only added to the regression, it would stay wherever nothing was seen. BayesianRouter (arXiv
    2510.02850) learns ``m_k`` offline, from how often each reward model is right on labelled pairs. A run that is
    continued keeps the priors it began with.

    Args:
        spread: Width v >= 0 of what is drawn, in units of the reward; 0 is greedy.
        prior: Worth :math:`m_k` by the arm's name; 0 for those not named; null: no level at all. ``labels`` takes twice
            what the arm's share of rightly ordered pairs is above the arms' mean, in what ``selection.labels`` names.
        prior_weight: How many rewards a prior counts for, ``n_0`` > 0.
    """

    def __init__(
        self,
        spread: float = 0.5,
        prior: dict[str, float] | Literal["labels"] | None = None,
        prior_weight: float = 10.0,
    ) -> None:
        if not spread >= 0:
            raise ConfigurationError(f"spread must be >= 0, got {spread}. Set selection.bandit.spread in the config.")
        if not 0 < prior_weight < math.inf:
            raise ConfigurationError(
                f"prior_weight must be > 0 and finite, got {prior_weight}. Set selection.bandit.prior_weight."
            )
        self.spread = spread
        self.prior = prior
        self.learned: dict[str, float] = {}  # from labels
        self.prior_weight = prior_weight

    def check(self, arms: Sequence[str]) -> None:
        """Look the prior's arms up.

        Raises:
            ConfigurationError: If there is no arm of such a name, or a prior is no finite number.
        """
        for arm, value in self._levels().items():
            if arm not in arms:
                raise ConfigurationError(
                    f"selection.bandit.prior names '{arm}'; the reward models are {', '.join(arms)}."
                    + perhaps(closest(arm, arms), "Name those.")
                )
            if not math.isfinite(value):
                raise ConfigurationError(f"selection.bandit.prior.{arm} is {value}. Give a finite number.")

    @property
    def takes_labels(self) -> bool:
        """Where its prior is to come from them."""
        return self.prior == "labels"

    def learn_labels(self, accuracy: Tensor) -> None:
        """Take the prior from them, and begin again with it."""
        above = 2 * (accuracy - accuracy.nanmean()).nan_to_num(0.0)
        self.learned = dict(zip(self.arms, above.tolist(), strict=True))
        self.models = [self.model(arm) for arm in self.arms]
        self.forget()

    def model(self, arm: str) -> LevelledRidge:
        """An arm's regression with its prior."""
        if self.prior is None:
            return LevelledRidge(self.context_size, level=0.0, column=0.0)
        return LevelledRidge(self.context_size, self._levels().get(arm, 0.0), self.prior_weight**-0.5)

    def _levels(self) -> dict[str, float]:
        return self.prior if isinstance(self.prior, dict) else self.learned

    def opinion(self, contexts: Tensor) -> Explanation:
        """Expected reward, and what the draw adds to it."""
        mean, width = self.means(contexts), self.widths(contexts)
        noise = torch.randn(mean.shape, generator=self.generator, dtype=torch.float64)
        return Explanation(mean, self.spread * width * noise)

    def select(self, contexts: Tensor) -> Tensor:
        """The arm that is best in the draw, for every context. The next question gets another draw."""
        chosen = super().select(contexts)
        self.forget()
        return chosen
