"""Direct preference optimisation, and two variants of its term."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from laser_pl.errors import ConfigurationError
from laser_pl.objectives.base import LossInputs
from laser_pl.objectives.pairs import PairObjective, above_0


def dpo_loss(policy_margin: Tensor, reference_margin: Tensor, beta: float) -> Tensor:
    r"""Per-pair DPO loss, :math:`-\log\sigma(\beta[\Delta^\pi-\Delta^{ref}])`, Eq. (7) of Rafailov et al. 2023.

    Args:
        policy_margin: log p(chosen) - log p(rejected) under the policy, nats summed over response tokens.
            Shape ``(M,)``.
        reference_margin: The same under the reference; no gradient flows into it. Shape ``(M,)``.
        beta: Inverse temperature, 1/nats, > 0.

    Returns:
        Unreduced loss in nats. Shape ``(M,)``.

    Raises:
        ValueError: If ``beta`` is not positive or the shapes differ.

    >>> import torch
    >>> dpo_loss(torch.tensor([0.0, 10.0]), torch.zeros(2), beta=0.1)
    tensor([0.6931, 0.3133])
    """
    if not beta > 0:
        raise ValueError(f"beta must be > 0, got {beta}. Set model.beta in the config.")
    if policy_margin.shape != reference_margin.shape:
        raise ValueError(f"margins must agree, got {tuple(policy_margin.shape)} and {tuple(reference_margin.shape)}.")
    return -F.logsigmoid(beta * (policy_margin - reference_margin.detach()))


class Dpo(PairObjective):
    r"""DPO and the NLL of the chosen: the margin over the reference is to be wide.

    Rafailov et al. 2023, Eq. (7): :math:`-\log\sigma(\beta[\Delta^\pi-\Delta^{ref}])`.

    Args:
        beta: Inverse temperature, 1/nats, > 0. LASeR's paper does not publish its value.
        nll_weight: Weight of the chosen response's NLL per token.
    """

    name = "dpo"

    def __init__(self, beta: float = 0.1, nll_weight: float = 1.0) -> None:
        super().__init__(nll_weight)
        self.beta = above_0(beta, "beta")

    def pair_losses(self, inputs: LossInputs) -> Tensor:
        """Nats. Shape ``(M,)``."""
        return dpo_loss(inputs.margins, inputs.reference_margins, self.beta)


UNMEASURED, MOST = 0.1, 0.4
"""Share of wrong pairs where none is known, and the largest that is believed: at 0.5 pairs say nothing."""


class RobustDpo(Dpo):
    r"""DPO for labels of which a known share is the wrong way round.

    Chowdhury et al. 2024 (rDPO): :math:`\frac{(1-\epsilon)\,\ell(h)-\epsilon\,\ell(-h)}{1-2\epsilon}` with DPO's loss
    :math:`\ell(h)=-\log\sigma(\beta h)` is, over such labels, in the mean what DPO's is over clean ones. It has no
    lower bound.

    Args:
        beta: Inverse temperature, 1/nats, > 0.
        epsilon: Share of pairs whose chosen is the worse one, in [0, 0.5): 1 minus a reward model's pair accuracy. With
            ``measured`` it is that of the reward model that judged, as the signal ``Trusted`` measures it: each begins
            at 0.1, which counts as much as 4 measured prompts, and more than 0.4 is taken to be 0.4.
        nll_weight: Weight of the chosen response's NLL per token.
    """

    name: ClassVar[str] = "robust"

    def __init__(self, beta: float = 0.1, epsilon: float | Literal["measured"] = 0.1, nll_weight: float = 1.0) -> None:
        super().__init__(beta, nll_weight)
        if epsilon != "measured" and not 0 <= epsilon < 0.5:
            raise ConfigurationError(
                f"epsilon must be in [0, 0.5), got {epsilon}. It is the share of pairs that are the wrong way round."
                " Set model.objective.init_args.epsilon to such a number, or to measured."
            )
        self.epsilon = epsilon

    @property
    def takes_accuracy(self) -> bool:
        """If it is to be measured."""
        return self.epsilon == "measured"

    def pair_losses(self, inputs: LossInputs) -> Tensor:
        """Nats. Shape ``(M,)``."""
        moved = self.beta * (inputs.margins - inputs.reference_margins.detach())
        right, wrong = -F.logsigmoid(moved), -F.logsigmoid(-moved)
        epsilon = self._epsilon(inputs)  # () or (M,)
        return ((1 - epsilon) * right - epsilon * wrong) / (1 - 2 * epsilon)

    def _epsilon(self, inputs: LossInputs) -> float | Tensor:
        if self.epsilon != "measured":
            return self.epsilon
        wrong = (1 - inputs.accuracy.nan_to_num(1 - UNMEASURED)).clamp(0, MOST)  # (B,)
        return wrong[inputs.pairs.prompt].to(inputs.logprobs.dtype)


class LengthNormalisedDpo(Dpo):
    r"""DPO on log-ratios per token, so that long responses weigh no more than short ones.

    Tulu 3's (Lambert et al. 2024, Eq. (6)): :math:`-\log\sigma(\beta[r(y_w)/|y_w|-r(y_l)/|y_l|])` with
    :math:`r(y)=\log\pi(y)-\log\pi_{ref}(y)`.

    Args:
        beta: Inverse temperature, tokens/nat, > 0; larger than DPO's by about a response's length.
        nll_weight: Weight of the chosen response's NLL per token.
    """

    name: ClassVar[str] = "length_normalised"

    def __init__(self, beta: float = 5.0, nll_weight: float = 1.0) -> None:
        super().__init__(beta, nll_weight)

    def pair_losses(self, inputs: LossInputs) -> Tensor:
        """Nats. Shape ``(M,)``."""
        return -F.logsigmoid(self.beta * per_token_difference(inputs, inputs.logprobs - inputs.reference.detach()))


def per_token_difference(inputs: LossInputs, values: Tensor) -> Tensor:
    """How much more the chosen has per token than the rejected.

    Args:
        inputs: Which is which, and how long.
        values: Of each response. Shape ``(U,)``.

    Returns:
        Shape ``(M,)``.
    """
    means = values / inputs.lengths
    return means[inputs.pairs.chosen] - means[inputs.pairs.rejected]
