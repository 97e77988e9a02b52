"""The training loss as a signal, the paper's.

It cannot tell a good reward model from a bad one by its DPO part: the reference is the policy at the iteration's start,
so the first loss is ln 2 whoever judged. Its NLL part can: it is low for a reward model that prefers what the policy
finds likely already.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, PromptLosses, RolloutBatch
from laser_pl.feedback.instruments import Instruments
from laser_pl.feedback.observations import Observations, of_judges
from laser_pl.feedback.signals.base import Signal


def mean_nll(batch: RolloutBatch) -> Tensor:
    """Negative log-likelihood per token of each prompt's responses under the iteration's policy, their mean.

    It is what the NLL of a response chosen at random will be before training moves the policy. Shape ``(B,)``.
    """
    return -(batch.reference_logprobs / batch.responses.mask.sum(-1)).mean(-1)


class Loss(Signal):
    """The negative training loss, as in the paper: DPO + NLL if both are trained.

    By chance it is ln 2, the first value of any DPO loss, and the mean NLL of the prompt's responses.
    """

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Instruments) -> Observations:
        """Minus the total loss of each prompt."""
        return of_judges(batch, -losses.total, self.chance(batch, losses))

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        """Minus ln 2 and the weighted mean NLL."""
        return -math.log(2) - losses.nll_weight * mean_nll(batch)


class Dpo(Signal):
    """The negative DPO part of the loss: how far the policy preferred the same already.

    By chance it is ln 2.
    """

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Instruments) -> Observations:
        """Minus the DPO loss of each prompt."""
        return of_judges(batch, -losses.dpo, self.chance(batch, losses))

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        """Minus ln 2."""
        return torch.full_like(losses.dpo, -math.log(2))


class Nll(Signal):
    """The negative NLL part of the loss, trained or not: how likely the chosen responses are."""

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Instruments) -> Observations:
        """Minus the chosen responses' negative log-likelihood per token."""
        return of_judges(batch, -losses.nll, self.chance(batch, losses))

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        """Minus the mean NLL."""
        return -mean_nll(batch)


SAYS_NOTHING = (
    "The bandit learns from the DPO loss alone, which says nothing about which reward model is right: its first value"
    " is ln 2 whoever judged. Set selection.signal to laser_pl.feedback.signals.Cooling, Nll or Trusted, or train with"
    " model.nll_weight > 0 and learn from the Loss."
)
"""What is wrong with a signal that ``says_nothing``."""


def says_nothing(signal: Signal, nll_weight: float) -> bool:
    """Whether a signal is the DPO loss alone.

    Args:
        signal: What the bandit learns from.
        nll_weight: Weight of the other part of the loss.
    """
    return isinstance(signal, Dpo) or (isinstance(signal, Loss) and nll_weight == 0)
