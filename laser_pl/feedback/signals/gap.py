"""The chosen arm's own decisiveness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, PromptLosses, RolloutBatch
from laser_pl.feedback.observations import Observations, of_chosen_arms
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals.base import Signal
from laser_pl.feedback.signals.spread import Spread


class Gap(Signal):
    """The score gap of the chosen arm's pairs over the spread of its scores so far.

    A reward model at home distinguishes responses clearly; away from home its scores lie close together. It needs no
    labels and no further forward, but a reward model that is confident and wrong fools it.
    """

    of_pairs = True

    def __init__(self) -> None:
        self._spread = Spread()

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names."""
        self._spread.start(arms)

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """The mean gap of each prompt's pairs in standard deviations of the arm that scored it."""
        arms, pairs = batch.arms, batch.pairs.to("cpu")
        scores = batch.scores.double().cpu()  # (B, n)
        spread = torch.empty(len(batch), dtype=torch.float64)
        for arm in sorted(set(arms.tolist())):
            spread[arms == arm] = self._spread.observe(arm, scores[arms == arm])
        gap = scores[pairs.prompt, pairs.chosen] - scores[pairs.prompt, pairs.rejected]  # (M,)
        count = torch.bincount(pairs.prompt, minlength=len(batch))
        mean = torch.zeros(len(batch), dtype=torch.float64).index_add(0, pairs.prompt, gap) / count  # (B,) NaN: no pair
        return of_chosen_arms(batch, mean / spread, self.chance(batch, losses))

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        r"""The mean distance of two scores at random in their spreads, :math:`2 / \sqrt\pi` if they are normal."""
        return torch.full((len(batch),), 2 / math.sqrt(math.pi), dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        """Each arm's spread."""
        return self._spread.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up each arm's spread."""
        self._spread.load_state_dict(state)
