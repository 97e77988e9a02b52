"""Preference optimisation without a reference."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from laser_pl.objectives.base import LossInputs
from laser_pl.objectives.dpo import per_token_difference
from laser_pl.objectives.pairs import PairObjective, above_0, at_least_0


class SimPo(PairObjective):
    r"""SimPO: the likelihood per token is the reward, and there is no reference.

    Meng et al. 2024, Eq. (6): :math:`-\log\sigma(\beta[\log\pi(y_w)/|y_w|-\log\pi(y_l)/|y_l|]-\gamma)`. Its first value
    differs with who is chosen: it is low where the policy found the chosen likelier already.

    Args:
        beta: Inverse temperature, tokens/nat, > 0.
        gamma: The margin that is aimed at, >= 0.
        nll_weight: Weight of the chosen response's NLL per token; the paper has none.
    """

    name = "simpo"
    from_reference = False

    def __init__(self, beta: float = 2.0, gamma: float = 0.5, nll_weight: float = 0.0) -> None:
        super().__init__(nll_weight)
        self.beta = above_0(beta, "beta")
        self.gamma = at_least_0(gamma, "gamma")

    def pair_losses(self, inputs: LossInputs) -> Tensor:
        """Nats. Shape ``(M,)``."""
        return -F.logsigmoid(self.beta * per_token_difference(inputs, inputs.logprobs) - self.gamma)
