"""Strategies side by side: means over seeds, intervals, and tests against one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from laser_pl.report.runs import Run
from laser_pl.report.series import mean
from laser_pl.report.statistics import mean_and_interval, paired_test


@dataclass(frozen=True)
class Row:
    """One strategy.

    Attributes:
        name: What it is called.
        seeds: Of its runs.
        accuracy: Mean and half width of the 95 % interval by category, and on average.
        paired: Over how many common seeds it is compared with the baseline; 0 for the baseline itself.
        difference: Mean difference of the average from the baseline's over common seeds; NaN if there are none.
        p: Of the paired test; NaN for fewer than two common seeds.
        seconds: Wall clock over the baseline's, means of all seeds.
        forwards: Reward-model forwards over the baseline's, likewise; NaN if that had none.
        shares: Share of each category's prompts that each arm judged, mean over the seeds that had any.
    """

    name: str
    seeds: list[int]
    accuracy: dict[str, tuple[float, float]]
    paired: int
    difference: float
    p: float
    seconds: float
    forwards: float
    shares: dict[str, dict[str, float]]


def compare(strategies: Mapping[str, Mapping[int, Run]], baseline: str) -> list[Row]:
    """A row for each strategy.

    Args:
        strategies: Runs by strategy and seed.
        baseline: The strategy that the others are compared with.
    """
    base = strategies[baseline]
    return [_row(name, runs, base, name == baseline) for name, runs in strategies.items()]


def categories(rows: list[Row]) -> list[str]:
    """All categories, and the average last."""
    found = sorted({category for row in rows for category in row.accuracy} - {"average"})
    return [*found, *(["average"] if any("average" in row.accuracy for row in rows) else [])]


def _row(name: str, runs: Mapping[int, Run], base: Mapping[int, Run], is_base: bool) -> Row:
    accuracy = {}
    for category in sorted({category for run in runs.values() for category in run.accuracy}):
        values = [run.accuracy[category] for run in runs.values() if category in run.accuracy]
        accuracy[category] = mean_and_interval(values)
    known = [{seed for seed, run in group.items() if "average" in run.accuracy} for group in (runs, base)]
    both = sorted(set.intersection(*known))
    difference, p = math.nan, math.nan
    if both and not is_base:
        ours, theirs = ([group[seed].accuracy["average"] for seed in both] for group in (runs, base))
        difference, p = paired_test(ours, theirs)
    return Row(
        name=name,
        seeds=sorted(runs),
        accuracy=accuracy,
        paired=0 if is_base else len(both),
        difference=difference,
        p=p,
        seconds=_times([run.seconds for run in runs.values()], [run.seconds for run in base.values()]),
        forwards=_times([run.forwards for run in runs.values()], [run.forwards for run in base.values()]),
        shares=_shares(runs),
    )


def _times(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times one mean is the other; NaN of none."""
    return mean(ours) / mean(theirs) if any(theirs) else math.nan


def _shares(runs: Mapping[int, Run]) -> dict[str, dict[str, float]]:
    """By category, over the seeds that had prompts of it."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for run in runs.values():
        for category, arms in run.summary["arm_share"].items():
            found.setdefault(category, []).append(arms)
    return {
        category: {
            arm: mean([one.get(arm, 0.0) for one in own]) for arm in dict.fromkeys(arm for one in own for arm in one)
        }
        for category, own in sorted(found.items())
    }
