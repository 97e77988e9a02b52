"""What gets one arm: a batch, each category in it, each prompt, or what each process trains of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.runtime.process_group import ProcessGroup

Granularity = Literal["batch", "category", "prompt", "rank"]


def rows_of_decisions(prompts: Sequence[Prompt], granularity: Granularity, processes: ProcessGroup) -> list[list[int]]:
    """Which rows of a batch each decision is about, in the order of their first rows.

    Args:
        prompts: The batch's.
        granularity: What gets one arm.
        processes: The processes, to which rows are dealt out.

    >>> sums, words = Prompt("a", "", "", category="sums"), Prompt("b", "", "", category="words")
    >>> rows_of_decisions([sums, words, sums], "category", ProcessGroup())
    [[0, 2], [1]]
    """
    groups: dict[int | str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        group: dict[Granularity, int | str] = {
            "batch": 0, "category": prompt.category, "prompt": row, "rank": processes.rank_of(row)
        }  # fmt: skip
        groups.setdefault(group[granularity], []).append(row)
    return list(groups.values())


def decision_of_rows(rows: Sequence[Sequence[int]]) -> Tensor:
    """Which decision each row of a batch belongs to. Shape ``(B,)``, int64.

    >>> decision_of_rows([[0, 2], [1]]).tolist()
    [0, 1, 0]
    """
    decision = torch.empty(sum(map(len, rows)), dtype=torch.long)
    for m, own in enumerate(rows):
        decision[list(own)] = m
    return decision
