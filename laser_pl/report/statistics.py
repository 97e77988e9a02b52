"""Means over seeds with their intervals, and tests of differences."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from statistics import variance
from typing import Any

from laser_pl.errors import ConfigurationError
from laser_pl.report.series import mean


def mean_and_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of its interval by Student's t.

    Args:
        values: One for each seed.
        confidence: In (0, 1).

    Returns:
        Both; the half width is NaN for fewer than two values.

    >>> [round(x, 3) for x in mean_and_interval([1.0, 2.0, 3.0])]
    [2.0, 2.484]
    """
    if len(values) < 2:
        return mean(values), float("nan")
    quantile = float(_stats().t.ppf((1 + confidence) / 2, len(values) - 1))
    return mean(values), quantile * (variance(values) / len(values)) ** 0.5


def paired_test(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean difference of pairs, and the two-sided p of a sign-flip permutation test of its being zero.

    All sign patterns are tried where there are at most 9,999 of them, else so many at random, always the same. With m
    pairs p cannot fall below 2 / 2^m: four seeds can never show p < 0.05. Differences count in millionths: accuracies
    are recorded in single precision, whose rounding would make sums unequal that are equal.

    Args:
        ours: One for each seed.
        theirs: In the same order.

    Returns:
        Both; p is NaN for fewer than two pairs.
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    if len(differences) < 2:
        return mean(differences), float("nan")
    counted = [round(1e6 * difference) for difference in differences]  # whole numbers, whose sums are exact
    test = _stats().permutation_test((counted,), sum, permutation_type="samples", n_resamples=9999, rng=0)
    return mean(differences), float(test.pvalue)


def interval(middle: float, half: float) -> str:
    """A mean and the half width of its interval, where there is one.

    >>> interval(0.5, 0.0123), interval(0.5, float("nan"))
    ('0.500 ± 0.012', '0.500')
    """
    return f"{middle:.3f}" if math.isnan(half) else f"{middle:.3f} ± {half:.3f}"


def advantage(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """What ``paired_test`` says, in a table's cell.

    >>> advantage([0.75], [0.5])
    '+0.250'
    """
    difference, p = paired_test(ours, theirs)
    return f"{difference:+.3f}" if math.isnan(p) else f"{difference:+.3f} (p {p:.3f})"


def _stats() -> Any:
    try:
        return importlib.import_module("scipy.stats")
    except ImportError as error:
        raise ConfigurationError("Intervals need scipy. Install it with: pip install 'laser_pl[report]'.") from error
