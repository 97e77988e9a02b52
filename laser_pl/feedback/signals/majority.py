"""Agreement with the other reward models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, Prompt, PromptLosses, RolloutBatch
from laser_pl.feedback.observations import Observations, of_all_arms
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.share import Share
from laser_pl.feedback.signals.base import Signal


class Majority(Signal):
    """How often a reward model agrees with the majority of the others.

    On a share of the prompts all are asked, and all learn. It needs no answers, and K forwards on those prompts. Reward
    models that share a mistake outvote the one that does not make it.

    Args:
        share: Share of the prompts on which all are asked, in (0, 1]. Chosen by a hash of the prompt.
        seed: Root of the choice; null follows ``seed_everything``.
    """

    def __init__(self, share: float = 0.125, seed: int | None = None) -> None:
        self.asked = Share(share, "majority", seed)

    def follow(self, seed: int) -> None:
        """Choose the share by the run's seed."""
        self.asked.follow(seed)

    def polled(self, prompts: Sequence[Prompt]) -> list[int]:
        """Those of the share."""
        return self.asked.rows(prompts)

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """Every arm's share of pairs ordered as the others' majority orders them."""
        rows = self.polled(batch.prompts.prompts)
        if not rows:
            return of_all_arms([], torch.zeros(0, 0), 0.5)
        return of_all_arms(rows, agreement(ask.scores(rows).double().cpu()).T, chance=0.5)

    def silence(self, prompts: Sequence[Prompt]) -> str:
        """Why nothing was observed on the share."""
        return self.asked.silence(prompts, "had responses that the others order alike")

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        """A half."""
        return torch.full((len(batch),), 0.5, dtype=torch.float64)


def agreement(scores: Tensor) -> Tensor:
    """How often each arm orders two responses as the majority of the other arms does; ties count half.

    Pairs on which the others are split, or the arm has no opinion, do not count.

    Args:
        scores: NaN is no opinion. Shape ``(K, B, n)``.

    Returns:
        NaN where no pair counts. Shape ``(K, B)``.

    >>> agreement(torch.tensor([[[2.0, 1.0]], [[5.0, 3.0]], [[0.0, 1.0]], [[9.0, 8.0]]]))[:, 0]
    tensor([1., 1., 0., 1.])
    """
    difference = scores[..., :, None] - scores[..., None, :]  # (K, B, n, n)  NaN: abstains
    votes = difference.nan_to_num(0.0).sign()
    others = (votes.sum(0) - votes).sign()
    counts = (others != 0) & ~difference.isnan()
    return ((votes * others + 1) / 2 * counts).sum((-1, -2)) / counts.sum((-1, -2))
