"""The hinge loss on preference pairs."""

from __future__ import annotations

from torch import Tensor

from laser_pl.objectives.base import LossInputs
from laser_pl.objectives.pairs import PairObjective, above_0


class Hinge(PairObjective):
    r"""Hinge: a pair counts until its margin is wide enough.

    SLiC-HF's loss (Zhao et al. 2023) on DPO's margin, as in RSO (Liu et al. 2024, Eq. (11)):
    :math:`\max(0, 1-\beta[\Delta^\pi-\Delta^{ref}])`.

    Args:
        beta: The margin that is wide enough is 1 / beta nats, > 0.
        nll_weight: Weight of the chosen response's NLL per token.
    """

    name = "hinge"

    def __init__(self, beta: float = 0.1, nll_weight: float = 1.0) -> None:
        super().__init__(nll_weight)
        self.beta = above_0(beta, "beta")

    def pair_losses(self, inputs: LossInputs) -> Tensor:
        """Shape ``(M,)``."""
        return (1 - self.beta * (inputs.margins - inputs.reference_margins.detach())).relu()
