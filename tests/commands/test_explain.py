"""Reasons in words, and who is whose neighbour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from laser_pl.commands.explain import outcome, reason
from laser_pl.report.contexts import Seen
from laser_pl.report.neighbours import experience, nearest
from laser_pl.run.metrics_csv import read_metrics


def seen(context: list[float], **decision: Any) -> Seen:
    return Seen({"arm": "a", **decision}, torch.tensor(context, dtype=torch.float64), ["text"])


def test_neighbours_come_by_the_angle_between_contexts() -> None:
    one = seen([1.0, 0.0])
    earlier = [seen([0.0, 1.0]), seen([5.0, 5.0]), seen([3.0, 0.1]), seen([-1.0, 0.0])]
    found = nearest(one, earlier, 3)
    assert [neighbour.seen for neighbour in found] == [earlier[2], earlier[1], earlier[0]]
    assert [neighbour.similarity for neighbour in found] == pytest.approx([0.99944, 0.70711, 0.0], abs=1e-5)
    assert nearest(one, [], 3) == []


def test_an_arm_has_experience_where_it_was_rewarded_even_if_another_judged() -> None:
    around = [seen([0.0], reward={"a": 1.0}), seen([0.0], reward={"a": 0.0, "b": 0.5}), seen([0.0], reward=None)]
    a, b, c = (experience(arm, around) for arm in "abc")
    assert (a.judged, a.reward) == (3, 0.5)
    assert (b.judged, b.reward) == (0, 0.5)
    assert (c.judged, list(c.rewards)) == (0, [])


LOW, HIGH, EVEN, NONE = ({"a": a, "b": b} for a, b in ((0.1, 0.5), (0.5, 0.2), (0.5, 0.5), (0.0, 0.0)))
BONUS = {"a": 0.1, "b": 0.1}


@pytest.mark.parametrize(
    ("mean", "bonus", "passed_over", "told"),
    [
        (HIGH, BONUS, [], "number 1 of 2; with its bonus of 0.100 for what is unknown it has the largest sum."),
        (EVEN, BONUS, [], "it has the largest sum, which one other has as well; a lot decided."),
        (LOW, BONUS, [], "its sum is not the largest ('b' has that): this bandit explores by lot."),
        (LOW, BONUS, ["b"], "('b' has that). 'b' came first, but was aside or gave no label."),
        (NONE, NONE, [], "The bandit has no expectations, so it was chosen by rule or by lot."),
        ({}, {}, ["b"], "by lot. 'b' came first, but was aside or gave no label."),
    ],
)
def test_a_reason_says_what_decided(
    mean: dict[str, float], bonus: dict[str, float], passed_over: list[str], told: str
) -> None:
    assert reason({"arm": "a", "mean": mean, "bonus": bonus, "passed_over": passed_over}).endswith(told)


def test_an_outcome_says_what_was_learned() -> None:
    assert outcome({"pairs": 3, "loss": 0.5, "reward": {"a": -0.25, "b": 1.0}}) == (
        "3 pairs gave a loss of 0.500. The bandit learned: a -0.250, b +1.000."
    )
    assert outcome({"pairs": 3, "loss": 0.5, "reward": {}}).endswith("The bandit learned nothing of it.")
    assert outcome({"pairs": 0, "loss": None, "reward": {"a": 0.0}}) == (
        "No pairs could be made, so it trained nothing. The bandit learned: a +0.000."
    )


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_a_step_that_was_not_finite_had_pairs(loss: float | None) -> None:
    assert outcome({"pairs": 1, "loss": loss, "reward": None}) == (
        "One pair gave a loss or a gradient that is no finite number, so the step trained nothing. The bandit learned"
        " nothing of it."
    )


def test_a_row_that_was_torn_is_left_out(tmp_path: Path) -> None:
    """Also one that was torn within its last number, which would look like another number."""
    path = tmp_path / "metrics.csv"
    assert read_metrics(path) == []
    path.write_text("epoch,step,train/loss\r\n0,0,0.5\r\n0,1,\r\n0,2,0.2")
    assert read_metrics(path) == [(0, {"epoch": 0, "train/loss": 0.5}), (1, {"epoch": 0})]
    path.write_text("epoch,step,train/loss\r\n0,0,0.5\r\n0,1")
    assert read_metrics(path) == [(0, {"epoch": 0, "train/loss": 0.5})]
