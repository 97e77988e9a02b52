"""Identity preference optimisation."""

from __future__ import annotations

from torch import Tensor

from laser_pl.objectives.base import LossInputs
from laser_pl.objectives.dpo import per_token_difference
from laser_pl.objectives.pairs import PairObjective, above_0


class Ipo(PairObjective):
    r"""IPO: pulls the margin to a finite value instead of ever further.

    Azar et al. 2024, Eq. (17): :math:`(h-\frac{1}{2\beta})^2`, where :math:`h` is the margin over the reference of
    log-probabilities per token: the paper does not say so, its results are of that form, and peers take it so.

    Args:
        beta: Regularisation, tau in the paper, > 0: the margin aimed at is 1 / (2 beta) nats per token.
        nll_weight: Weight of the chosen response's NLL per token.
    """

    name = "ipo"

    def __init__(self, beta: float = 0.1, nll_weight: float = 1.0) -> None:
        super().__init__(nll_weight)
        self.beta = above_0(beta, "beta")

    def pair_losses(self, inputs: LossInputs) -> Tensor:
        """Squared nats. Shape ``(M,)``."""
        moved = per_token_difference(inputs, inputs.logprobs - inputs.reference.detach())
        return (moved - 1 / (2 * self.beta)) ** 2
