"""Which prompts an iteration uses, and in which batches: a function of the seed and the iteration alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from laser_pl.batches import Prompt
from laser_pl.runtime.seeds import derive_seed

T = TypeVar("T")


def split_every(items: Sequence[T], size: int) -> list[list[T]]:
    """Consecutive groups of ``size``; the last may be smaller.

    >>> split_every([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4], [5]]
    """
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def prompts_of_iteration(prompts: Sequence[Prompt], iteration: int, count: int | None, seed: int) -> list[Prompt]:
    """The next ``count`` prompts of an endless shuffled deck: all come once before any comes again.

    Args:
        prompts: The training prompts.
        iteration: Counted from 0.
        count: Prompts per iteration; None, or more than there are, takes all.
        seed: Every lap through the prompts has its own order, which follows from it.
    """
    count = len(prompts) if count is None else min(count, len(prompts))
    chosen: list[Prompt] = []
    position, end = iteration * count, (iteration + 1) * count
    while position < end:
        lap, place = divmod(position, len(prompts))
        order = np.random.default_rng(derive_seed(seed, "order", lap)).permutation(len(prompts))
        taken = order[place : place + end - position]
        chosen += [prompts[index] for index in taken]
        position += len(taken)
    return chosen


def batches_of_iteration(
    prompts: Sequence[Prompt], size: int, one_category_per_batch: bool, iteration: int, seed: int
) -> list[list[Prompt]]:
    """Cut an iteration's prompts into batches, in their order or by category.

    By category, the batches come in an order that follows from the seed and the iteration.
    """
    if not one_category_per_batch:
        return split_every(prompts, size)
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.category, []).append(prompt)
    batches = [batch for name in sorted(groups) for batch in split_every(groups[name], size)]
    order = np.random.default_rng(derive_seed(seed, "batches", iteration)).permutation(len(batches))
    return [batches[index] for index in order]
