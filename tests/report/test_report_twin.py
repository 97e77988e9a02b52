"""Every figure of a page against the raw files, computed once more in the slowest way, for runs of unusual kinds."""

from __future__ import annotations

import csv
import json
import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from laser_pl.report.charts import Bars, Chart, Heat, Lines, Stack
from laser_pl.report.page import accuracy_rows, page
from laser_pl.report.records import read_records
from laser_pl.report.run_figures import CURVES, figures

KINDS = {
    "whole": {},
    "one arm": {"arms": 1},
    "one iteration, killed": {"iterations": 1, "finished": False},
    "all steps skipped": {"skipped": 1.0},
    "half of the steps skipped": {"skipped": 0.5},
    "several decisions a step": {"decisions": 3},
    "mixed batches": {"categories": 0},
    "no answers": {"answers": False},
    "no validation": {"validated": False},
    "an arm that came late": {"late": True, "iterations": 3},
}


def write(folder: Path, kind: str) -> None:
    """A run's folder with ``config.yaml``, ``metrics.csv`` and ``selection.jsonl`` that fit one another."""
    usual = {"arms": 4, "iterations": 2, "finished": True, "skipped": 0.1, "decisions": 1, "late": False,
             "categories": 3, "answers": True, "validated": True}  # fmt: skip
    settings: dict[str, Any] = {**usual, **KINDS[kind]}
    lot = random.Random(kind)
    arms = [f"arm{number}" for number in range(settings["arms"])]
    config = {
        "trainer": {"max_epochs": settings["iterations"]},
        "selection": {"bandit": {"class_path": "laser_pl.bandits.LinUCB"}, "reward_models": dict.fromkeys(arms)},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines, rows = [], []

    def measured(split: str, step: int, epoch: int) -> None:
        if settings["answers"]:
            names = [
                f"{split}/accuracy/{how}/{what}" for how in ("sampled", "greedy") for what in ("c0", "c1", "average")
            ]
            rows.append({"step": step, "epoch": epoch, **{name: lot.random() for name in names}})

    measured("test", 0, 0)
    step = 0
    for iteration in range(settings["iterations"]):
        known = arms[:-1] if settings["late"] and iteration == 0 else arms
        for _ in range(lot.randint(4, 40)):
            skipped = lot.random() < settings["skipped"]
            asked = {arm: lot.randint(1, 50) for arm in lot.sample(known, lot.randint(1, len(known)))}
            cost = {"reward_model_seconds": lot.random(), "reward_model_forwards": asked}
            for number in range(settings["decisions"]):
                ids = [f"p{step}-{number}-{prompt}" for prompt in range(lot.randint(1, 5))]
                lines.append({
                    "iteration": iteration, "step": step, "prompt_ids": ids, "arm": lot.choice(known),
                    "passed_over": [],
                    "category": f"c{lot.randrange(settings['categories'])}" if settings["categories"] else None,
                    "mean": {arm: lot.gauss(0, 1) for arm in known}, "bonus": {arm: lot.random() for arm in known},
                    "pairs": 0 if skipped else 2, "loss": None if skipped else 0.5, "reward": None, **cost,
                })  # fmt: skip
            row: dict[str, Any] = {
                "step": step, "epoch": iteration, "train/response_length": lot.uniform(1, 9),
                "tokens/prompts": lot.randint(1, 99), "tokens/responses": lot.randint(1, 99),
            }  # fmt: skip
            if not skipped:
                row |= {"train/loss": lot.random(), "train/margin": lot.gauss(0, 1)}
            rows.append(row)
            step += 1
        if settings["validated"]:
            measured("validation", step, iteration)
    if settings["finished"]:
        measured("test", step, settings["iterations"])
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "selection.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write(tmp_path, request.param)
    return tmp_path


def cells(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def decisions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "selection.jsonl").read_text().splitlines()]


def charts(folder: Path, name: str) -> dict[str, Chart]:
    (figure,) = [figure for figure in figures(read_records(folder)) if figure.name == name]
    return {chart.title: chart for chart in figure.charts}


def test_shares_of_categories_are_those_of_their_prompts(folder: Path) -> None:
    chart = charts(folder, "arms")["whole run, % of prompts"]
    assert isinstance(chart, Heat)
    judged = [(line["category"] or "mixed", line["arm"]) for line in decisions(folder) for _ in line["prompt_ids"]]
    assert list(chart.rows) == sorted({category for category, _ in judged})
    for category, values in zip(chart.rows, chart.values, strict=True):
        own = [arm for of, arm in judged if of == category]
        for arm, value in zip(chart.columns, values, strict=True):
            assert value == pytest.approx(float(Fraction(own.count(arm), len(own))))
        assert sum(value or 0 for value in values) == pytest.approx(1)


def test_shares_along_the_run_are_those_of_the_prompts_of_these_steps(folder: Path) -> None:
    chart = charts(folder, "arms")["share of prompts judged"]
    assert isinstance(chart, Stack)
    for place, (start, end) in enumerate(zip(chart.edges, chart.edges[1:], strict=False)):
        own = [one["arm"] for one in decisions(folder) for _ in one["prompt_ids"] if start <= one["step"] < end - 1e-9]
        for arm, shares in zip(chart.names, chart.shares, strict=True):
            assert shares[place] == pytest.approx(own.count(arm) / len(own))
    steps = [one["step"] for one in decisions(folder)]
    assert list(chart.marks) == sorted(
        min(one["step"] for one in decisions(folder) if one["iteration"] == iteration)
        for iteration in range(1, 1 + max(one["iteration"] for one in decisions(folder)))
    )
    assert (chart.edges[0], chart.edges[-1]) == (min(steps), max(steps) + 1)


def test_curves_are_the_cells_and_gaps_where_these_are_empty(folder: Path) -> None:
    drawn = charts(folder, "training")
    steps = [row for row in cells(folder) if row["train/response_length"]]
    for name, title in CURVES:
        values = [float(row[name]) if row.get(name) else math.nan for row in steps]
        assert (title in drawn) == any(not math.isnan(value) for value in values)
        if title in drawn:
            chart = drawn[title]
            assert isinstance(chart, Lines)
            for (x, y), row, value in zip(chart.series[0].points, steps, values, strict=True):
                assert x == int(row["step"])
                assert y == pytest.approx(value, nan_ok=True)


def test_what_the_bandit_thought_keeps_its_mean(folder: Path) -> None:
    """Bins are of nearly as many decisions each, so means of few steps are exact and of more are near."""
    lines = decisions(folder)
    for arm, chart in charts(folder, "bandit").items():
        assert isinstance(chart, Lines)
        (series,) = chart.series
        own = [line for line in lines if arm in line["mean"]]
        bins = [round(place * len(own) / len(series.points)) for place in range(len(series.points) + 1)]
        for place, ((_, mean), (_, top)) in enumerate(zip(series.points, series.upper, strict=True)):
            group = own[bins[place] : bins[place + 1]]
            assert mean == pytest.approx(sum(line["mean"][arm] for line in group) / len(group))
            bonus = sum(line["bonus"][arm] for line in group) / len(group)
            assert top - mean == pytest.approx(bonus)


def test_costs_count_each_step_once(folder: Path) -> None:
    drawn = charts(folder, "costs")
    seconds, forwards, tokens = (drawn[name] for name in ("seconds", "reward-model forwards", "tokens of the policy"))
    assert isinstance(seconds, Bars)
    assert isinstance(forwards, Bars)
    assert isinstance(tokens, Bars)
    first_of_step = {line["step"]: line for line in reversed(decisions(folder))}.values()
    assert list(seconds.amounts) == [pytest.approx(sum(line["reward_model_seconds"] for line in first_of_step))]
    for arm, amount in zip(forwards.names, forwards.amounts, strict=True):
        assert amount == sum(line["reward_model_forwards"].get(arm, 0) for line in first_of_step)
    for name, amount in zip(tokens.names, tokens.amounts, strict=True):
        assert amount == sum(int(row[f"tokens/{name}"] or 0) for row in cells(folder))


def test_accuracies_are_the_first_and_the_last_that_were_measured(folder: Path) -> None:
    rows = {row["category"]: row for row in accuracy_rows(read_records(folder))}
    for what in ("c0", "c1", "average") if rows else ():
        for how in ("sampled", "greedy"):
            found = [float(row[name]) for row in cells(folder) if row.get(name := f"test/accuracy/{how}/{what}")]
            assert rows[what][f"{how}_before"] == found[0]
            assert rows[what][f"{how}_after"] == (found[1] if len(found) > 1 else None)
    assert bool(rows) == any(name.startswith("test/") for row in cells(folder) for name in row)


def test_the_page_counts_the_steps(folder: Path) -> None:
    text = " ".join(page(read_records(folder)).split())
    steps = len({line["step"] for line in decisions(folder)})
    assert f"<b>{steps}</b> <small>training steps" in text
    empty = len({line["step"] for line in decisions(folder) if line["pairs"] == 0})
    assert (f"No pair could be made in {empty} of {steps} steps" in text) == (empty > 0.2 * steps)
