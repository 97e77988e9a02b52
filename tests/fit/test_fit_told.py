"""What is told of steps and iterations is of them alone, and of all of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import Fit

EVERY_OTHER = """
count = [0]

def ties(prompts, completions, **_):
    count[0] += 1
    return [1.0] * len(prompts) if count[0] % 2 == 0 else [float(row) for row, _ in enumerate(prompts)]
"""


def test_the_row_of_a_step_that_trained_nothing_says_nothing_of_its_loss(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second batch ties; what was logged of the one before is not its own."""
    (tmp_path / "every_other.py").write_text(EVERY_OTHER)
    monkeypatch.syspath_prepend(tmp_path)
    arm = '{"a": {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "every_other.ties"}}}'
    run = fit(tmp_path, f"--selection.reward_models={arm}", "--selection.bandit=laser_pl.bandits.Fixed")
    with run.folder.metrics.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/response_length"]]
    assert [bool(row["train/loss"]) for row in rows] == [True, False, True, False]
    for row in rows:
        of_pairs = [row[f"train/{name}"] for name in ("dpo", "nll", "margin", "chosen_logprob", "pairs")]
        assert all(map(bool, of_pairs)) is any(map(bool, of_pairs)) is bool(row["train/loss"])
        assert row["selection/a"] == "1.0"


def test_the_line_of_an_iteration_covers_what_was_before_an_interruption(
    fit: Fit, tmp_path: Path, plug: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> list[str]:
        return re.findall(r"Iteration 1 of 1: mean loss.*", capsys.readouterr().err)

    fit(tmp_path / "whole")
    expected = told()
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path / "parts", "--checkpoint_every=1", plug("on_train_batch_end", 2))
    assert told() == []
    fit(tmp_path / "parts", "--checkpoint_every=1", "--resume")
    assert told() == expected
    assert len(expected) == 1
