"""What a signal measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch
from laser_pl.moved import former_names


@dataclass(frozen=True)
class Observations:
    """Values of arms on prompts: higher is better.

    Attributes:
        prompt: Row of the prompt. Shape ``(O,)``, int64.
        arm: The arm the value is about; not always the one that judged. Shape ``(O,)``, int64.
        value: Shape ``(O,)``, float64, finite.
        chance: The value to expect of a reward model that scores at random, known beforehand. Shape ``(O,)``.
        polled: Whether arms were seen whoever was chosen, since all were asked.
    """

    prompt: Tensor
    arm: Tensor
    value: Tensor
    chance: Tensor
    polled: bool = False


def of_chosen_arms(batch: LabelledBatch, values: Tensor, chance: Tensor) -> Observations:
    """Observations about the arms that judged, one per prompt, leaving out prompts without a value.

    Args:
        batch: The labelled batch.
        values: NaN is no value. Shape ``(B,)``.
        chance: Shape ``(B,)``.
    """
    values = values.detach().double().cpu()
    rows = torch.nonzero(values.isfinite()).squeeze(-1)
    return Observations(rows, batch.arms[rows], values[rows], chance.double().cpu()[rows])


def of_all_arms(rows: list[int], values: Tensor, chance: float) -> Observations:
    """Observations about every arm on some prompts, leaving out what has no value.

    Args:
        rows: The prompts' rows.
        values: NaN is no value. Shape ``(len(rows), K)``.
        chance: The same for all.
    """
    place, arm = torch.nonzero(values.isfinite(), as_tuple=True)
    found = values[place, arm].double()
    return Observations(torch.tensor(rows, dtype=torch.long)[place], arm, found, torch.full_like(found, chance), True)


def mean_by_arm(seen: Observations, group: Tensor) -> Observations:
    """One observation for each arm of each group of prompts.

    Args:
        seen: Observations of single prompts.
        group: The group of each prompt of the batch. Shape ``(B,)``, int64.

    Returns:
        Their means; ``prompt`` counts groups.
    """
    owners = torch.stack([group[seen.prompt], seen.arm])  # (2, observations)
    (where, arms), place = torch.unique(owners, dim=1, return_inverse=True)
    count = torch.bincount(place, minlength=len(arms))

    def mean(values: Tensor) -> Tensor:
        return torch.zeros(len(arms), dtype=values.dtype).index_add(0, place, values) / count

    return Observations(where, arms, mean(seen.value), mean(seen.chance), seen.polled)


__getattr__ = former_names(__name__, {"of_judges": "of_chosen_arms"})
