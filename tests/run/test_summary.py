"""The closing table says what the summary holds."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from laser_pl.report.summary import arm_shares, print_summary, versions

SUMMARY: dict[str, Any] = {
    "accuracy": {
        "before": {"[sums]": 0.25, "words": 0.5, "average": 0.375},
        "after": {"[sums]": 0.75, "words": 0.375, "average": 0.5625},
    },
    "arm_share": {"[sums]": {"a": 0.25, "[b]": 0.745, "c": 0.005}, "words": {"a": 1.0, "[b]": 0.0, "c": 0.0}},
    "seconds": {"rollouts": 1.0, "steps": 2.5, "total": 3.5},
    "reward_model_forwards": {"a": 30, "[b]": 12, "c": 0},
    "reward_model_forwards_avoided": 84,
    "labels_missing": {"[b]": {"nan": 2, "none": 1}},
    "constraints": {"[safe]": {"[sums]": {"responses": 40, "failed": 3}, "words": {"responses": 2, "failed": 0}}},
    "steps_without_pairs": 0,
    "steps_not_finite": 0,
    "steps": 9,
}


def printed(summary: dict[str, Any]) -> str:
    screen = StringIO()
    print_summary(summary, "runs/[x]", Console(file=screen, width=100))
    return screen.getvalue()


def row(text: str, name: str) -> list[str]:
    """The cells of one line of the table."""
    (line,) = [line for line in text.splitlines() if name in line and "│" in line]
    return [cell.strip() for cell in line.strip("│ ").split("│")]


def test_every_category_stands_in_a_row() -> None:
    """Names with brackets are no markup, and what is shown adds up to 100 %."""
    text = printed(SUMMARY)
    assert row(text, "[sums]") == ["[sums]", "0.250", "0.750", "+0.500", "[b] 75%, a 25%"]
    assert row(text, "words") == ["words", "0.500", "0.375", "-0.125", "a 100%"]
    assert row(text, "average")[:4] == ["average", "0.375", "0.562", "+0.188"]


def test_where_nothing_was_tested_it_says_who_judged() -> None:
    text = printed({**SUMMARY, "accuracy": {"before": {}, "after": {}}})
    assert "Who scored" in text
    assert row(text, "[sums]") == ["[sums]", "[b] 75%, a 25%"]
    assert "before" not in text
    assert "average" not in text


def test_costs_and_folder_are_printed() -> None:
    text = printed(SUMMARY)
    assert "Time: 3.5 s (rollouts 1.0 s, steps 2.5 s)" in text
    assert "Reward-model forwards: 42 done, 84 avoided (a 30; [b] 12; c 0)" in text
    assert "Run: runs/[x]" in text
    assert "Labels that [b] did not give: 2 nan, 1 none" in text
    assert "Forbidden by [safe]: [sums] 3 of 40, words 0 of 2" in text
    assert "Steps skipped" not in text
    assert "Steps skipped for want of pairs: 4 of 9" in printed({**SUMMARY, "steps_without_pairs": 4})
    assert "Steps skipped as not finite: 2 of 9" in printed({**SUMMARY, "steps_not_finite": 2})


def test_without_an_accuracy_before_there_is_no_change() -> None:
    text = printed({**SUMMARY, "accuracy": {**SUMMARY["accuracy"], "before": None}})
    assert row(text, "words") == ["words", "", "0.375", "", "a 100%"]


def test_categories_without_accuracy_have_judges_too() -> None:
    """No test prompt of that category has an answer."""
    text = printed({**SUMMARY, "accuracy": {"before": None, "after": {"[sums]": 0.5, "average": 0.5}}})
    assert row(text, "words") == ["words", "", "", "", "a 100%"]
    assert row(text, "average")[2] == "0.500"


def test_forwards_that_a_signal_asked_for_beyond_all_are_not_avoided() -> None:
    text = printed({**SUMMARY, "reward_model_forwards_avoided": -6})
    assert "42 done, 6 more than by asking every reward model once (a 30" in text


def test_shares_add_up_to_one() -> None:
    shares = arm_shares({"w": {"a": 1, "b": 2}, "s": {"b": 5}}, ["a", "b", "c"])
    assert list(shares) == ["s", "w"]
    assert shares["w"] == pytest.approx({"a": 1 / 3, "b": 2 / 3, "c": 0.0})
    assert shares["s"] == {"a": 0.0, "b": 1.0, "c": 0.0}


def test_arms_that_are_gone_keep_their_share() -> None:
    assert arm_shares({"w": {"gone": 3, "a": 1}}, ["a", "new"]) == {"w": {"a": 0.25, "new": 0.0, "gone": 0.75}}


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["torch"] == version("torch")
    assert {"laser_pl", "python", "lightning", "transformers", "peft"} <= found.keys()


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without W&B ends as well as one with it."""

    def told(name: str) -> str:
        if name == "wandb":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("laser_pl.report.summary.version", told)
    assert "wandb" not in versions()
    assert versions()["torch"] == version("torch")
