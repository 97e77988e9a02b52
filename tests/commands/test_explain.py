"""Reasons in words, and what each arm is known by."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from laser_pl.commands.explain import explain_step, outcome, reason
from laser_pl.run.metrics_csv import read_metrics


def test_an_arm_is_known_by_earlier_decisions_of_the_category(tmp_path: Path) -> None:
    """Also where it was rewarded though another judged; what a step alone has seen tells nothing of it."""
    (tmp_path / "config.yaml").write_text("seed_everything: 0\n")
    thought = {"mean": {"a": 0.1, "b": 0.2}, "bonus": {"a": 0.0, "b": 0.0}, "iteration": 0, "prompt_ids": ["p"]}
    lines = [
        {"step": 0, "arm": "a", "category": "sums", "reward": {"a": 1.0, "b": 0.5}},
        {"step": 1, "arm": "b", "category": "sorting", "reward": {"b": -9.0}},
        {"step": 2, "arm": "a", "category": "sums", "reward": {"a": 0.0}},
        {"step": 3, "arm": "a", "category": "sums", "reward": {"a": 8.0}},
    ]
    (tmp_path / "selection.jsonl").write_text("".join(json.dumps(thought | line) + "\n" for line in lines))
    screen = StringIO()
    assert explain_step([str(tmp_path), "--step=3"], Console(file=screen, width=120)) == [thought | lines[3]]
    text = screen.getvalue()
    assert "in 2 earlier decisions of this category" in text
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in text.splitlines() if row.startswith("│")]
    assert [row[4:] for row in rows] == [["2", "+0.500 (2)"], ["0", "+0.500 (1)"]]


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
