"""The figures of a comparison: how strategies learned, whom they asked, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from laser_pl.report.charts import Bars, Figure, Heat, Lines, Series
from laser_pl.report.comparison import Row
from laser_pl.report.records import RunRecords
from laser_pl.report.series import Point, mean
from laser_pl.report.statistics import mean_and_interval

Records = Mapping[str, Sequence[RunRecords]]
"""Those of each strategy's runs."""


def comparison_figures(rows: Sequence[Row], records: Records) -> list[Figure]:
    """All of them, each strategy with one colour."""
    return [curves_figure(records), asked_figure(rows), costs_figure(records)]


def curves_figure(records: Records) -> Figure:
    """Validation accuracy after every iteration, and test accuracy before the first."""
    names = {name for every in records.values() for run in every for name in run.metric_names(_SAMPLED)}
    charts = []
    for name in sorted(names, key=lambda name: (name != "average", name)):
        series = [one for key, runs in enumerate(records.values()) for one in _curve(runs, name, key)]
        if series:
            charts.append(Lines(name, "iterations trained", [*series], percent=True))
    return Figure(
        "curves",
        "Over iterations",
        "Share of right responses on the validation prompts after every iteration, sampled: mean over seeds, and 95 %"
        " interval by Student's t where there are several.",
        charts,
        [(name, key) for key, name in enumerate(records)],
        "No validation accuracy is recorded: trainer.limit_val_batches was 0, or no prompt has an answer.",
    )


_SAMPLED = "validation/accuracy/sampled/"


def _curve(runs: Sequence[RunRecords], name: str, key: int) -> list[Series]:
    """The band and the mean, where all seeds have been."""
    measured = [run.metric_by_iteration(f"{_SAMPLED}{name}") for run in runs]
    common = sorted(set.intersection(*(set(one) for one in measured)))
    if not common:
        return []
    found = [mean_and_interval([one[iteration][-1] for one in measured]) for iteration in common]
    points: list[Point] = [(iteration + 1.0, middle) for iteration, (middle, _) in zip(common, found, strict=True)]
    bands = []
    if all(math.isfinite(half) for _, half in found):
        low, high = ([(x, min(max(y + sign * half, 0.0), 1.0)) for (x, y), (_, half) in zip(points, found, strict=True)]
                     for sign in (-1, 1))  # fmt: skip
        bands = [Series("", low, key, "faint", upper=high)]
    return [*bands, Series("", points, key)]


def asked_figure(rows: Sequence[Row]) -> Figure:
    """Whom each strategy asked in each category."""
    arms = list(dict.fromkeys(arm for row in rows for shares in row.shares.values() for arm in shares))
    every = list(dict.fromkeys(category for row in rows for category in row.shares))
    charts = []
    for category in every:
        values = [[row.shares[category].get(arm, 0.0) for arm in arms] if category in row.shares else [None] * len(arms)
                  for row in rows]  # fmt: skip
        charts.append(Heat(f"{category}, % of prompts", [row.name for row in rows], arms, values))
    return Figure("arms", "Who scored", "Which reward model ranked the responses, mean over seeds.", charts)


def costs_figure(records: Records) -> Figure:
    """Time and reward-model forwards, means over seeds."""
    summaries = {name: [run.summary or {} for run in every] for name, every in records.items()}
    seconds = [mean([one["seconds"]["total"] for one in own]) for own in summaries.values()]
    forwards = [mean([sum(one["reward_model_forwards"].values()) for one in own]) for own in summaries.values()]
    charts = [
        Bars(title, list(records), amounts, [f"{amount:,.0f}" for amount in amounts], list(range(len(records))))
        for title, amounts in (("seconds", seconds), ("reward-model forwards", forwards))
    ]
    return Figure("costs", "What it cost", "Means over seeds.", charts)
