"""Win rates and their intervals, against sums by hand and equations solved one at a time."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
import torch
from scipy.optimize import brentq

from laser_pl.winrate.judgement import Comparison
from laser_pl.winrate.rates import Rate, controlled_rates, length_term, rate_of


def games(*lines: tuple[float | None, int, int], each: int = 1) -> list[Comparison]:
    """One game for each line, of ``each`` to a prompt: who won, and both lengths."""
    return [Comparison(f"p{i // each}", "sums", won, (a, b)) for i, (won, a, b) in enumerate(lines)]


def drawn(count: int, seed: int, bias: float = 1.0) -> list[Comparison]:
    """Games in which the longer response wins more often."""
    lot = random.Random(seed)
    lines = []
    for _ in range(count):
        a, b = lot.randint(1, 60), lot.randint(1, 40)
        chance = 1 / (1 + math.exp(-0.3 - bias * (a - b) / 20))
        lines.append((lot.choices((1.0, 0.0, 0.5), (chance, 1 - chance, 0.1))[0], a, b))
    return games(*lines)


def solved(won: Sequence[float], x: Sequence[float], counts: Sequence[float]) -> float:
    """The same optimum, found as a root within a root in Python's floats: theta for each phi, and then phi."""

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))

    def errors(theta: float, phi: float) -> list[float]:
        return [c * (w - sigmoid(theta + phi * v)) for w, v, c in zip(won, x, counts, strict=True)]

    def theta_of(phi: float) -> float:
        return float(brentq(lambda theta: math.fsum(errors(theta, phi)), -60, 60, xtol=1e-14))

    def slope(phi: float) -> float:
        return math.fsum(e * v for e, v in zip(errors(theta_of(phi), phi), x, strict=True)) - phi / 9

    of_those = {w for w, c in zip(won, counts, strict=True) if c}
    if of_those in ({0.0}, {1.0}):
        return of_those.pop()
    return sigmoid(theta_of(float(brentq(slope, -30, 30, xtol=1e-14))))


def test_wins_ties_losses_and_what_is_missing_by_hand() -> None:
    rate = rate_of(games((1.0, 4, 2), (0.5, 3, 3), (0.0, 1, 5), (1.0, 2, 2), (None, 10, 13)), seed=0)
    assert (rate.prompts, rate.wins, rate.ties, rate.losses, rate.missing) == (4, 2, 1, 1, 1)
    assert rate.rate == pytest.approx(2.5 / 4)
    assert rate.lengths == (pytest.approx(20 / 5), pytest.approx(25 / 5))


def test_the_length_term_by_hand() -> None:
    """Differences 3, -1, 1 have the mean 1 and the variance (4 + 4 + 0) / 2."""
    found = length_term(torch.tensor([3.0, -1.0, 1.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([math.tanh(1.5), math.tanh(-0.5), math.tanh(0.5)])


@pytest.mark.parametrize("bias", [-3.0, 0.0, 1.0, 30.0])
@pytest.mark.parametrize("count", [4, 25, 300])
def test_the_rate_at_equal_lengths_is_the_one_that_is_solved_for_otherwise(count: int, bias: float) -> None:
    known = drawn(count, seed=count, bias=bias)
    won = [one.won for one in known if one.won is not None]
    differences = [a - b for a, b in (one.lengths for one in known)]
    middle = math.fsum(differences) / count
    spread = math.sqrt(math.fsum((d - middle) ** 2 for d in differences) / (count - 1))
    x = [math.tanh(d / spread) for d in differences]
    assert rate_of(known, seed=0).controlled == pytest.approx(solved(won, x, [1] * count), abs=1e-9)
    lot = random.Random(0)
    times = [[lot.choice((0, 1, 2, 3)) for _ in won] for _ in range(3)]
    term = torch.tensor(x, dtype=torch.float64)
    found = controlled_rates(torch.tensor(won, dtype=torch.float64), term, torch.tensor(times, dtype=torch.float64))
    assert found.tolist() == pytest.approx([solved(won, x, counts) for counts in times], abs=1e-9)


def test_what_length_alone_decides_is_nearer_to_even_at_equal_lengths() -> None:
    """The longer wins always; ours is longer in three of four. For a large phi, theta solves 75 exp(-theta - u) =
    25 exp(theta - u), so that the odds are the root of 3."""
    rate = rate_of(games(*([(1.0, 30, 10)] * 75 + [(0.0, 10, 30)] * 25)), seed=0)
    assert rate.rate == 0.75
    assert rate.controlled == pytest.approx(1 / (1 + 3**-0.5), abs=0.01)


def mirrored(rate: Rate) -> list[float]:
    return [rate.rate, *rate.interval, rate.controlled, *rate.controlled_interval]


def test_the_other_side_wins_what_this_one_does_not() -> None:
    there = drawn(60, seed=5)
    back = [Comparison(o.prompt_id, o.category, 1 - (o.won or 0.0), (o.lengths[1], o.lengths[0])) for o in there]
    a, b, c, d, e, f = mirrored(rate_of(back, seed=3))
    assert mirrored(rate_of(there, seed=3)) == pytest.approx([1 - v for v in (a, c, b, d, f, e)], abs=1e-9)


def test_at_equal_lengths_throughout_both_rates_are_the_same() -> None:
    rate = rate_of(games(*([(1.0, 7, 7)] * 9 + [(0.0, 3, 3)] * 4 + [(0.5, 5, 5)])), seed=0)
    assert rate.controlled == pytest.approx(rate.rate, abs=1e-12)
    assert rate.controlled_interval == pytest.approx(rate.interval, abs=1e-9)


def test_what_always_wins_wins_at_equal_lengths_too() -> None:
    rate = rate_of(games(*([(1.0, 7, 9), (1.0, 8, 2)] * 5)), seed=0)
    assert (rate.rate, rate.controlled) == (1.0, 1.0)
    # A bootstrap of ten equal prompts would be sure. 0.692: of a rate so low one sees 10 of 10 once in forty times.
    assert rate.interval == rate.controlled_interval == (pytest.approx(0.025**0.1), 1.0)
    rate = rate_of(games(*([(0.0, 7, 9)] * 3)), seed=0)
    assert rate.interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 3)))


def test_lengths_that_always_differ_by_the_same_tell_nothing() -> None:
    rate = rate_of(games((1.0, 7, 5), (0.0, 6, 4), (1.0, 3, 1)), seed=0)
    assert rate.rate == pytest.approx(2 / 3)
    assert all(map(math.isnan, (rate.controlled, *rate.controlled_interval)))


def test_an_interval_is_as_wide_as_a_share_of_so_many_prompts_has_it() -> None:
    """1.96 standard errors of a share of one half among 400."""
    rate = rate_of(games(*([(1.0, 1, 2), (0.0, 2, 1)] * 200)), seed=0)
    half = 1.96 * math.sqrt(0.25 / 400)
    assert rate.interval == (pytest.approx(0.5 - half, abs=0.005), pytest.approx(0.5 + half, abs=0.005))


def test_an_interval_follows_from_its_seed() -> None:
    first, again, other = (rate_of(drawn(60, seed=5), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert (first.rate, first.controlled) == (other.rate, other.controlled)
    assert first.controlled_interval != other.controlled_interval


def test_prompts_are_drawn_and_not_comparisons() -> None:
    """Four responses that end alike say no more than one of them."""
    lines: list[tuple[float | None, int, int]] = [(1.0, 5, 3), (0.0, 2, 4), (1.0, 1, 1), (0.5, 9, 2), (0.0, 3, 3)]
    one, four = rate_of(games(*lines), seed=0), rate_of(games(*[g for g in lines for _ in range(4)], each=4), seed=0)
    assert four.prompts == one.prompts == 5
    assert four.interval == pytest.approx(one.interval)


def test_one_prompt_has_no_interval_and_none_no_rate() -> None:
    one = rate_of(games((1.0, 2, 1), (0.0, 1, 1), each=2), seed=0)
    assert one.rate == 0.5
    assert all(map(math.isnan, (*one.interval, *one.controlled_interval)))
    nothing = rate_of(games((None, 2, 1)), seed=0)
    assert (nothing.prompts, nothing.missing) == (0, 1)
    assert math.isnan(nothing.rate)
