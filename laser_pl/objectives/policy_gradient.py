"""Policy gradients: the scores of a prompt's responses, compared with one another, weigh their likelihood."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from laser_pl.batches import LOSS, LabelledBatch, RolloutBatch
from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.objectives.pairs import above_0, at_least_0, mean_per_prompt

Advantage = Literal["leave_one_out", "group_normalised", "centred"]


class PolicyGradient(Objective):
    r"""A clipped policy gradient over all responses, and the KL to the iteration's start.

    The loss of a prompt is

    .. math:: \frac{1}{n}\sum_i -\min(\rho_i A_i,\ \mathrm{clip}(\rho_i, 1-c, 1+c) A_i) + w\,(e^{-l_i} - 1 + l_i),
        \qquad \rho_i = e^{l_i}

    with the advantages :math:`A_i` that ``advantages`` makes of the chosen reward model's scores, the clipping of PPO
    (Schulman et al. 2017), and Schulman's estimator k3 of the KL, as GRPO has it. :math:`l_i` is the log-ratio of a
    whole response under the policy and under that of the iteration's start, which wrote it:

    - ``leave_one_out`` and ``centred``: :math:`\log\pi(y)-\log\pi_{start}(y)`, as RLOO takes it.
    - ``group_normalised``: the same per token of the response, as GSPO takes it (Zheng et al. 2025, Eq. (5) and (7)).

    A departure from GRPO and Dr. GRPO, which clip token by token: rollouts hold the log-probability of each response,
    not of each token. At the first step of an iteration, where every ratio is 1, the gradients are theirs; Dr. GRPO's
    up to its constant divisor. The later steps of an iteration, one for each batch, are trained on responses that the
    policy of its start wrote, which is what ratio and clipping are for.

    Prompts whose scores are all the same have no loss and do not count in the mean, where others count them as 0.
    Before training moves the policy the loss is 0 whoever scored: the bandit needs a signal that is made of something
    else.

    Args:
        advantage: See ``advantages``.
        clip: How far a ratio may be from 1 before it stops to count, > 0.
        kl_weight: Weight of the KL, >= 0.
    """

    needs = "scores"
    means = ("ratio", "clipped")

    def __init__(self, advantage: Advantage = "leave_one_out", clip: float = 0.2, kl_weight: float = 0.04) -> None:
        self.advantage = advantage
        self.clip = above_0(clip, "clip")
        self.kl_weight = at_least_0(kl_weight, "kl_weight")

    @property
    def parts(self) -> tuple[str, ...]:
        """The clipped gain, and the KL."""
        return "policy_gradient", "kl"

    def uses(self, batch: LabelledBatch) -> Tensor:
        """All that have a score, of prompts whose scores differ. Shape ``(B, n)``, bool."""
        known = batch.scores.isfinite()
        highest = batch.scores.masked_fill(~known, -torch.inf).amax(-1)
        lowest = batch.scores.masked_fill(~known, torch.inf).amin(-1)
        return (known & (highest > lowest)[:, None]).to(batch.responses.tokens.device)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """See ``Objective``."""
        moved, gain = self._log_ratios(inputs), self._advantages(inputs)
        ratio = moved.exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        surrogate = mean_per_prompt(-torch.minimum(ratio * gain, clipped * gain), inputs.prompt, inputs.prompts)
        kl = mean_per_prompt((-moved).exp() - 1 + moved, inputs.prompt, inputs.prompts)
        return LossOutputs(surrogate + self.kl_weight * kl, {"policy_gradient": surrogate, "kl": kl})

    def of_each(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The ratio of each response, and whether it is one that stopped to count. Shape ``(U,)`` each."""
        ratio, gain = self._log_ratios(inputs).exp(), self._advantages(inputs)
        stopped = ((ratio > 1 + self.clip) & (gain > 0)) | ((ratio < 1 - self.clip) & (gain < 0))
        return {"ratio": ratio, "clipped": stopped.to(ratio.dtype)}

    def by_chance(self, batch: RolloutBatch) -> dict[str, Tensor]:
        """Nothing: the advantages of a prompt's responses add up to 0."""
        nothing = torch.zeros_like(batch.reference_logprobs[:, 0])
        return dict.fromkeys((LOSS, *self.parts), nothing)

    def informs(self, part: str) -> bool:
        """None does."""
        return False

    def _log_ratios(self, inputs: LossInputs) -> Tensor:
        moved = inputs.logprobs - inputs.reference.detach()
        return moved / inputs.lengths if self.advantage == "group_normalised" else moved

    def _advantages(self, inputs: LossInputs) -> Tensor:
        return advantages(inputs.scores, inputs.prompt, inputs.prompts, self.advantage).to(inputs.logprobs.dtype)


def advantages(scores: Tensor, prompt: Tensor, prompts: int, kind: Advantage) -> Tensor:
    r"""How much better each response is than the others to its prompt.

    - ``leave_one_out``: :math:`s_i - \frac{1}{n-1}\sum_{j \ne i} s_j`, RLOO's (Ahmadian et al. 2024).
    - ``group_normalised``: :math:`(s_i - \bar s) / \mathrm{std}(s)`, GRPO's (Shao et al. 2024). The deviation is the
      sample's, with n - 1, as TRL takes it. Scores in other units give the same.
    - ``centred``: :math:`s_i - \bar s`, Dr. GRPO's (Liu et al. 2025): without the division, which weighs prompts by how
      little their scores differ.

    Args:
        scores: Finite, at least two for each prompt that has any. Shape ``(U,)``.
        prompt: The prompt of each. Shape ``(U,)``, int64.
        prompts: ``B``.
        kind: One of these.

    Returns:
        In units of the scores, but for ``group_normalised``. Shape ``(U,)``, float64.

    >>> one = torch.zeros(3, dtype=torch.long)
    >>> advantages(torch.tensor([0.0, 1.0, 5.0]), one, 1, "leave_one_out").tolist()
    [-3.0, -1.5, 4.5]
    >>> advantages(torch.tensor([0.0, 1.0, 5.0]), one, 1, "centred").tolist()
    [-2.0, -1.0, 3.0]
    """
    scores = scores.double()
    count = torch.bincount(prompt, minlength=prompts).double()  # (B,)
    centred = scores - mean_per_prompt(scores, prompt, prompts)[prompt]
    if kind == "leave_one_out":
        return centred * (count / (count - 1))[prompt]
    if kind == "group_normalised":
        squares = scores.new_zeros(prompts).index_add(0, prompt, centred.square())
        return centred / (squares / (count - 1)).sqrt()[prompt]
    return centred
