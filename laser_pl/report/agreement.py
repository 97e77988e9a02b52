"""How alike reward models judge, where several of them scored the same responses."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

Scores = Sequence[float | None]


def agreement(judged: Iterable[dict[str, Any]], arms: Sequence[str]) -> list[list[float | None]] | None:
    """How often each two arms put two responses to a prompt in the same order.

    Pairs of responses that either of them has no opinion on, or holds equal, do not count.

    Args:
        judged: Prompts with the scores of the arms that were asked.
        arms: Rows and columns of the result.

    Returns:
        Shares, None where two arms never met; or None altogether if no two ever did.

    >>> agreement([{"scores": {"a": [1.0, 2.0, 3.0], "b": [1.0, 3.0, 2.0]}}], ["a", "b"])
    [[None, 0.6666666666666666], [0.6666666666666666, None]]
    """
    same: dict[tuple[str, str], int] = {}
    met: dict[tuple[str, str], int] = {}
    for line in judged:
        for one, other in itertools.combinations([arm for arm in arms if arm in line["scores"]], 2):
            alike, counted = pairs_alike(line["scores"][one], line["scores"][other])
            for both in ((one, other), (other, one)):
                same[both], met[both] = same.get(both, 0) + alike, met.get(both, 0) + counted
    if not any(met.values()):
        return None
    return [[same[a, b] / met[a, b] if met.get((a, b)) else None for b in arms] for a in arms]


def pairs_alike(one: Scores, other: Scores) -> tuple[int, int]:
    """How many pairs of responses two reward models order alike, and how many both order at all.

    >>> pairs_alike([1.0, 2.0, None], [5.0, 7.0, 1.0]), pairs_alike([1.0, 1.0], [1.0, 2.0])
    ((1, 1), (0, 0))
    """
    alike = counted = 0
    both = [(a, b) for a, b in zip(one, other, strict=False) if a is not None and b is not None]
    for (a, b), (c, d) in itertools.combinations(both, 2):
        if a != c and b != d:
            counted += 1
            alike += (a < c) == (b < d)
    return alike, counted
