"""Numbers along a run, made few enough to be drawn and to be distinguished."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import variance

Point = tuple[float, float]
"""x and y; a y that is no finite number is a gap: nothing is known there, and nothing is drawn."""


def binned(points: Sequence[Point], bins: int) -> list[Point]:
    """Means of consecutive groups; the points themselves where there are no more than ``bins``. Sorted by x.

    A group is a gap where all of it is.

    >>> binned([(0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0)], bins=2)
    [(0.5, 2.0), (2.5, 6.0)]
    >>> binned([(0, 1.0), (1, math.nan), (2, math.nan), (3, math.nan)], bins=2)
    [(0.5, 1.0), (2.5, nan)]
    """
    points = sorted(points, key=lambda point: point[0])
    if len(points) <= bins:
        return points
    edges = [round(i * len(points) / bins) for i in range(bins + 1)]
    groups = [points[start:end] for start, end in itertools.pairwise(edges)]
    return [(mean([x for x, _ in group]), mean(known([y for _, y in group]))) for group in groups]


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Means over a window around each value, which is cut at the ends; gaps stay, and count nowhere.

    >>> smoothed([0.0, 3.0, 6.0], width=3), smoothed([0.0, math.nan, 6.0], width=3)
    ([1.5, 3.0, 4.5], [0.0, nan, 6.0])
    """
    half = width // 2
    return [
        mean(known(values[max(0, i - half) : i + half + 1])) if math.isfinite(value) else math.nan
        for i, value in enumerate(values)
    ]


def known(values: Sequence[float]) -> list[float]:
    """Those that are finite numbers."""
    return [value for value in values if math.isfinite(value)]


def unbroken(points: Sequence[Point]) -> list[list[Point]]:
    """The pieces between gaps.

    >>> unbroken([(0, 1.0), (1, 2.0), (2, math.nan), (3, 4.0)])
    [[(0, 1.0), (1, 2.0)], [(3, 4.0)]]
    """
    pieces = itertools.groupby(points, key=lambda point: math.isfinite(point[1]))
    return [list(piece) for finite, piece in pieces if finite]


def mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def clear_change(before: Sequence[float], after: Sequence[float]) -> float:
    """How much the mean rose, if by more than two standard errors of the difference; otherwise 0.

    Fewer than two values on either side say nothing.

    >>> clear_change([1.0, 1.2], [3.0, 3.2]), clear_change([1.0, 3.0], [1.5, 3.5])
    (2.0, 0.0)
    """
    if len(before) < 2 or len(after) < 2:
        return 0.0
    change = mean(after) - mean(before)
    error = math.sqrt(sum(variance(values) / len(values) for values in (before, after)))
    return change if abs(change) > 2 * error else 0.0
