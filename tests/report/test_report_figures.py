"""Figures say what the records say, and are drawn whatever that is."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.report.charts import Bars, Chart, Heat, Lines, Series, Stack
from laser_pl.report.records import RunRecords
from laser_pl.report.run_figures import accuracy_figure, arms_figure, bandit_figure, costs_figure, training_figure
from laser_pl.report.series import binned, clear_change, mean, smoothed, unbroken
from laser_pl.report.svg import draw
from laser_pl.run.folder import RunFolder

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


def records(**changes: Any) -> RunRecords:
    return RunRecords(
        RunFolder(Path("none")), **{"config": {"selection": {"reward_models": {"a": 1, "b": 2}}}, **changes}
    )


def decision(step: int, arm: str, prompts: int = 1, category: str = "sums", **changes: Any) -> dict[str, Any]:
    ids = [f"p{number}" for number in range(prompts)]
    return {"iteration": step // 3, "step": step, "prompt_ids": ids, "category": category, "arm": arm,
            "mean": {"a": 0.0, "b": 0.0}, "bonus": {"a": 0.0, "b": 0.0}, **changes}  # fmt: skip


def drawn(chart: Chart) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(draw(chart)).iter())


# -- what they say -----------------------------------------------------------------------------------------------------


def test_accuracy_is_drawn_where_it_was_measured() -> None:
    measured = ((0, 0, "test", 0.25), (9, 0, "validation", 0.5), (19, 1, "validation", 0.625), (20, 2, "test", 0.75))
    rows = [(step, {"epoch": epoch, f"{split}/accuracy/sampled/sums": value}) for step, epoch, split, value in measured]
    figure = accuracy_figure(records(metrics=rows))
    (chart,) = figure.charts
    assert isinstance(chart, Lines)
    assert [(series.kind, list(series.points)) for series in chart.series] == [
        ("line", [(1.0, 0.5), (2.0, 0.625)]), ("rings", [(0.0, 0.25), (2.0, 0.75)])
    ]  # fmt: skip


def test_shares_are_those_of_prompts_not_of_decisions() -> None:
    lines = [decision(0, "a", prompts=3), decision(0, "b"), decision(1, "b"), decision(3, "b", category="words")]
    stack, whole, last = arms_figure(records(decisions=lines)).charts
    assert isinstance(stack, Stack)
    assert list(stack.edges) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [list(row) for row in stack.shares] == [[0.75, 0, 0, 0], [0.25, 1, 0, 1]]
    assert list(stack.marks) == [3.0]
    assert isinstance(whole, Heat)
    assert (whole.rows, whole.values) == (["sums", "words"], [[0.6, 0.4], [0.0, 1.0]])
    assert isinstance(last, Heat)
    assert (last.title, last.rows, last.values) == ("iteration 2, % of prompts", ["words"], [[0.0, 1.0]])


def test_a_bandit_without_expectations_is_said_to_have_none() -> None:
    figure = bandit_figure(records(decisions=[decision(0, "a")]))
    assert (list(figure.charts), figure.missing) == (
        [],
        "All expectations and bonuses are 0: this bandit has none, or learned nothing yet.",
    )
    opinion = {"mean": {"a": 0.5, "b": -0.5}, "bonus": {"a": 0.25, "b": 0.125}}
    a, b = bandit_figure(records(decisions=[decision(0, "a", **opinion)])).charts
    assert isinstance(a, Lines)
    assert isinstance(b, Lines)
    assert (list(a.series[0].points), list(a.series[0].upper)) == ([(0, 0.5)], [(0, 0.75)])
    assert a.y == b.y == (-0.5, 0.75)


def test_curves_that_were_not_logged_are_left_out() -> None:
    rows = [(step, {"epoch": step // 2, "train/loss": 1.0 - step / 8}) for step in range(4)]
    (chart,) = training_figure(records(metrics=rows)).charts
    assert isinstance(chart, Lines)
    assert (chart.title, list(chart.marks)) == ("loss, nats", [2.0])
    assert list(chart.series[0].points) == [(0, 1.0), (1, 0.875), (2, 0.75), (3, 0.625)]


SKIPPED = "nan"  # a cell that is empty, or holds no finite number


def test_a_step_that_was_skipped_is_a_gap() -> None:
    """Not the loss before it, and no line across; what such a step has nevertheless, such as lengths, goes on."""
    values = (4.0, 3.0, SKIPPED, SKIPPED, 2.0, SKIPPED, 1.0)
    rows: list[tuple[int, dict[str, float]]] = [(0, {"epoch": 0, "test/accuracy/sampled/average": 0.5})]
    for step, value in enumerate(values):
        row = {"epoch": 0, "train/response_length": 5.0, **({} if value == SKIPPED else {"train/loss": float(value)})}
        rows.append((step, row))
    loss, length = training_figure(records(metrics=rows)).charts
    assert isinstance(loss, Lines)
    assert isinstance(length, Lines)
    faint, smooth = loss.series
    assert unbroken(faint.points) == [[(0, 4.0), (1, 3.0)], [(4, 2.0)], [(6, 1.0)]]
    assert unbroken(smooth.points) == [[(0, 3.5), (1, 3.5)], [(4, 2.0)], [(6, 1.0)]]
    assert [x for x, y in faint.points if math.isnan(y)] == [2, 3, 5]
    assert loss.y_range == (1.0, 4.0)
    assert [x for x, _ in length.series[0].points] == list(range(7))
    (line,) = [one for one in drawn(loss) if (one.get("class") or "").startswith("faint")]
    pieces = line.get("d", "").split("M")[1:]
    assert [piece.count(",") for piece in pieces] == [2, 1, 1]
    assert [piece.endswith("h0") for piece in pieces] == [False, True, True]
    assert len([one for one in drawn(loss) if (one.get("class") or "").startswith("dot")]) == 4


def test_many_steps_without_a_loss_stay_a_gap_when_steps_are_drawn_together() -> None:
    rows = [
        (step, {"epoch": 0, "train/truncated": 0.0, **({} if 900 <= step < 1800 else {"train/loss": 1.0})})
        for step in range(3000)
    ]
    loss, _ = training_figure(records(metrics=rows)).charts
    assert isinstance(loss, Lines)
    assert [x for x, y in loss.series[0].points if math.isnan(y)] == [904.5 + 10 * i for i in range(90)]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_drawn(odd: float) -> None:
    names = ("train/loss", "validation/accuracy/sampled/average")
    rows = [(step, {"epoch": step, **dict.fromkeys(names, odd if step == 1 else 0.5)}) for step in range(4)]
    opinions = [decision(step, "a", mean={"a": odd if step == 1 else 0.5, "b": 0.0}) for step in range(4)]
    figures = [
        one(records(metrics=rows, decisions=opinions)) for one in (accuracy_figure, training_figure, bandit_figure)
    ]
    for figure in figures:
        for chart in figure.charts:
            text = draw(chart)
            assert "nan" not in text
            assert "inf" not in text
    nothing = [(step, {"epoch": 0, "train/loss": odd}) for step in range(4)]
    assert training_figure(records(metrics=nothing)).charts == []


def test_of_several_validations_in_an_iteration_the_last_is_drawn() -> None:
    rows = [(step, {"epoch": step // 2, "validation/accuracy/sampled/sums": step / 10}) for step in range(4)]
    (chart,) = accuracy_figure(records(metrics=rows)).charts
    assert isinstance(chart, Lines)
    assert list(chart.series[0].points) == [(1.0, 0.1), (2.0, 0.3)]


def test_bands_of_decisions_of_one_step_stay_with_their_lines() -> None:
    both = [
        {"mean": {"a": mean, "b": 0.0}, "bonus": {"a": bonus, "b": 0.0}} for mean, bonus in ((0.5, 0.1), (0.2, 0.9))
    ]
    a, _ = bandit_figure(records(decisions=[decision(0, "a", **one) for one in both])).charts
    assert isinstance(a, Lines)
    (series,) = a.series
    assert [high - low for (_, low), (_, high) in zip(series.points, series.upper, strict=True)] == pytest.approx(
        [0.1, 0.9]
    )


def test_costs_of_a_batch_are_counted_once_for_all_its_decisions() -> None:
    cost = {"reward_model_seconds": 2.0, "reward_model_forwards": {"a": 8}}
    lines = [decision(0, "a", **cost), decision(0, "a", **cost), decision(1, "b", **cost)]
    seconds, forwards = costs_figure(records(decisions=lines)).charts
    assert isinstance(seconds, Bars)
    assert isinstance(forwards, Bars)
    assert (list(seconds.names), list(seconds.amounts)) == (["scoring"], [4.0])
    assert (list(forwards.names), list(forwards.amounts)) == (["a"], [16])


# -- how they are drawn ------------------------------------------------------------------------------------------------


@given(NUMBERS)
def test_lines_stay_within_their_axes(values: list[float]) -> None:
    points = list(enumerate(values))
    chart = Lines("t", "x", [Series("s", points, upper=points), Series("r", points, kind="rings")])
    for element in drawn(chart):
        for x, y in re.findall(r"(-?[\d.]+|nan|inf),(-?[\d.]+|nan|inf)", element.get("d", "")):
            assert 45 <= float(x) <= 411
            assert 9 <= float(y) <= 195


def test_iterations_have_no_halves() -> None:
    texts = [element.text for element in drawn(Lines("t", "iterations", [Series("s", [(0, 0.0), (2, 1.0)])]))]
    assert [text for text in texts if text in ("0", "0.5", "1", "1.5", "2")].count("0.5") <= 1  # on the upright axis
    assert "1.5" not in texts


def test_the_ninth_arm_is_told_from_the_first() -> None:
    looks = [
        (line.get("class"), line.get("stroke-dasharray"))
        for key in range(16)
        for line in drawn(Lines("t", "x", [Series("s", [(0, 0), (1, 1)], key)]))
        if (line.get("class") or "").startswith("line")
    ]
    assert len(looks) == len(set(looks)) == 16


def test_names_are_escaped_in_every_chart() -> None:
    odd = '"><script>&'
    charts: list[Chart] = [
        Lines(odd, odd, [Series(odd, [(0, 1.0)])]),
        Stack(odd, odd, [0.0, 1.0], [odd], [[1.0]]),
        Heat(odd, [odd], [odd], [[0.5]]),
        Bars(odd, [odd], [1.0], [odd], [0]),
    ]
    for chart in charts:
        elements = drawn(chart)  # which is well-formed
        assert {element.tag for element in elements} <= {"svg", "g", "path", "circle", "rect", "text", "title"}
        assert elements[0].get("aria-label") == odd


def test_what_is_unknown_is_no_zero() -> None:
    classes = [element.get("class") for element in drawn(Heat("t", ["r"], ["a", "b"], [[None, 0.0]]))]
    assert classes.count("nothing") == classes.count("heat") == 1


@pytest.mark.parametrize("count", [1, 12])
def test_pictures_take_any_names_and_any_number(count: int) -> None:
    names = [f"$x_{number}$ {'long ' * 20}" for number in range(count)]
    charts: Sequence[Chart] = [
        *(Lines(name, "x", [Series(name, [(0, 1.0)], key, upper=[(0, 1.0)])]) for key, name in enumerate(names)),
        Stack("t", "x", [0.0, 1.0], names, [[1 / count]] * count),
        Heat("t", names, names, [[None] * count] * count),
        Bars("t", names, [0.0] * count, ["1,000,000 s"] * count, list(range(count))),
    ]
    for chart in charts:
        assert drawn(chart)[0].get("aria-label")


# -- numbers along a run -----------------------------------------------------------------------------------------------


@given(NUMBERS, st.integers(1, 20))
def test_bins_keep_the_mean_and_the_order(values: list[float], bins: int) -> None:
    points = binned(list(enumerate(values)), bins)
    assert len(points) == min(bins, len(values))
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert min(values) <= min(y for _, y in points) <= max(y for _, y in points) <= max(values) or len(values) == 1


@given(NUMBERS, st.integers(1, 9))
def test_a_running_mean_has_a_value_for_each(values: list[float], width: int) -> None:
    found = smoothed(values, width)
    assert len(found) == len(values)
    assert found[0] == pytest.approx(mean(values[: width // 2 + 1]), abs=1e-6)


def test_a_change_within_two_standard_errors_is_none() -> None:
    """Values -1 and 1 eight times: the difference of two such means has the error sqrt(2 * (16 / 15) / 16) = 0.365."""
    swing = [-1.0, 1.0] * 8
    assert clear_change(swing, [value + 0.74 for value in swing]) == pytest.approx(0.74)
    assert clear_change(swing, [value + 0.72 for value in swing]) == 0
    assert clear_change([1.0], [9.0, 9.0]) == 0
