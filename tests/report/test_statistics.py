"""Intervals and tests, against printed tables and against trying every sign."""

from __future__ import annotations

import itertools
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.report.statistics import mean_and_interval, paired_test


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        # Quantiles of Student's t at 0.975 from a printed table: 12.706 (1 degree of freedom), 4.303 (2), 2.776 (4).
        ([0.4, 0.6], 0.5, 12.706 * 0.1),
        ([1.0, 2.0, 3.0], 2.0, 4.303 / math.sqrt(3)),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 2.776 * math.sqrt(2.5 / 5)),
    ],
)
def test_intervals_equal_the_printed_quantiles(values: list[float], mean: float, half: float) -> None:
    assert mean_and_interval(values) == (pytest.approx(mean), pytest.approx(half, rel=2e-4))


def test_one_value_has_no_interval() -> None:
    mean, half = mean_and_interval([0.25])
    assert mean == 0.25
    assert math.isnan(half)


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8))
def test_p_equals_trying_every_sign(differences: list[int]) -> None:
    """Whole numbers, so that equal sums are equal; two-sided is twice the smaller tail, at most 1."""
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in patterns]
    seen = sum(differences)
    tails = sum(value >= seen for value in sums), sum(value <= seen for value in sums)
    mean, p = paired_test([float(d) for d in differences], [0.0] * len(differences))
    assert mean == pytest.approx(seen / len(differences))
    assert p == pytest.approx(min(1.0, 2 * min(tails) / len(patterns)), abs=1e-9)


def test_single_precision_makes_no_difference() -> None:
    """Accuracies are recorded so, and their differences of -0.1, 0.2 and -0.1 would not add up to 0."""
    ours, theirs = [0.5, 0.7, 0.6], [0.6, 0.5, 0.7]
    single = [[struct.unpack("f", struct.pack("f", value))[0] for value in values] for values in (ours, theirs)]
    assert paired_test(*single)[1] == paired_test(ours, theirs)[1] == 1.0


@pytest.mark.parametrize("seeds", [2, 4, 6, 10])
def test_p_cannot_fall_below_its_floor(seeds: int) -> None:
    _, p = paired_test([1.0 + seed for seed in range(seeds)], [0.0] * seeds)
    assert p == pytest.approx(2 / 2**seeds)


def test_one_pair_has_no_p() -> None:
    difference, p = paired_test([0.75], [0.5])
    assert difference == 0.25
    assert math.isnan(p)


def test_many_seeds_are_tried_at_random_and_always_alike() -> None:
    ours = [0.1 * (seed % 7) for seed in range(20)]
    assert paired_test(ours, [0.25] * 20) == paired_test(ours, [0.25] * 20)
    assert paired_test(ours, [0.25] * 20)[1] <= 1
