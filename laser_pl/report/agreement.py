"""How alike reward models judge, where several of them scored the same responses."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    found = meetings(judged, arms)
    if not any(met.pairs for met in found.values()):
        return None
    both = found | {(b, a): met for (a, b), met in found.items()}
    return [[met.share if (met := both.get((a, b))) is not None and met.pairs else None for b in arms] for a in arms]


@dataclass(frozen=True)
class Meeting:
    """What two reward models said of the same responses.

    Attributes:
        prompts: On which both ordered at least one pair of responses.
        pairs: Pairs of responses that both ordered.
        alike: Of them, those they ordered alike.
    """

    prompts: int = 0
    pairs: int = 0
    alike: int = 0

    @property
    def share(self) -> float:
        """Of the pairs, those ordered alike."""
        return self.alike / self.pairs


def meetings(judged: Iterable[dict[str, Any]], arms: Sequence[str]) -> dict[tuple[str, str], Meeting]:
    """What each two arms said of the responses that both scored.

    >>> meetings([{"scores": {"a": [1.0, 2.0, 3.0], "b": [1.0, 3.0, 2.0]}}], ["a", "b"])
    {('a', 'b'): Meeting(prompts=1, pairs=3, alike=2)}
    """
    found: dict[tuple[str, str], Meeting] = {}
    for line in judged:
        for both in itertools.combinations([arm for arm in arms if arm in line["scores"]], 2):
            alike, counted = pairs_alike(*(line["scores"][arm] for arm in both))
            met = found.get(both, Meeting())
            found[both] = Meeting(met.prompts + (counted > 0), met.pairs + counted, met.alike + alike)
    return found


def pairs_alike(one: Scores, other: Scores) -> tuple[int, int]:
    """How many pairs of responses two reward models order alike, and how many both order at all.

    >>> pairs_alike([1.0, 2.0, None], [5.0, 7.0, 1.0]), pairs_alike([1.0, 1.0], [1.0, 2.0])
    ((1, 1), (0, 0))
    """
    alike = counted = 0
    both = [(a, b) for a, b in zip(one, other, strict=False) if a is not None and b is not None and a == a and b == b]
    lower: list[float] = []  # the other's scores of what the one holds to be less, sorted
    for _, equal in itertools.groupby(sorted(both), key=lambda scores: scores[0]):
        own = [b for _, b in equal]
        for b in own:
            below, above = bisect_left(lower, b), len(lower) - bisect_right(lower, b)
            alike += below
            counted += below + above
        for b in own:
            insort(lower, b)
    return alike, counted
