"""The training loss as a signal, the paper's.

Its DPO part says nothing of how good a reward model is: the reference is the policy at the iteration's start, so the
first loss is ln 2 whoever scored. Its NLL part can: it is low for a reward model that prefers what the policy
finds likely already.
"""

from __future__ import annotations

from torch import Tensor

from laser_pl.batches import LOSS, LabelledBatch, PromptLosses, RolloutBatch
from laser_pl.feedback.observations import Observations, of_chosen_arms
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals.base import Signal


class Loss(Signal):
    """The negative training loss, as in the paper: DPO + NLL if both are trained.

    By chance it is what labels made at random give: for DPO ln 2, its first value, and the mean NLL of the prompt's
    responses.
    """

    part = LOSS

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """Minus the loss of each prompt, or the part of it."""
        return of_chosen_arms(batch, -losses.values[self.part], self.chance(batch, losses))

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        """Minus what it is by chance."""
        return -losses.by_chance[self.part]


class Dpo(Loss):
    """The negative DPO part of the loss: how far the policy preferred the same already."""

    part = "dpo"


class Nll(Loss):
    """The negative NLL part of the loss, trained or not: how likely the chosen responses are."""

    part = "nll"
