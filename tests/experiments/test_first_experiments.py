"""What somebody runs first: each a few steps of the command in its header."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.first.graded import right_in_5_of_10, right_in_7_of_10, right_in_9_of_10
from laser_pl.commands.cli import LaserCLI, main

ROOT = Path(__file__).resolve().parents[2]
SHORT = [
    "--trainer.max_epochs=1", "--data.prompts_per_iteration=96", "--model.evaluation.n=1",
    "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1",
]  # fmt: skip
GRADES = {0.9: right_in_9_of_10, 0.7: right_in_7_of_10, 0.5: right_in_5_of_10}


@pytest.fixture
def short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], LaserCLI]:
    """Run one of them, cut down: ``short_run(name)``."""
    monkeypatch.chdir(ROOT)

    def run(name: str) -> LaserCLI:
        configs = ["--config=experiments/quickstart.yaml", f"--config=experiments/first/{name}.yaml"]
        return main(["fit", *configs, *SHORT, f"--runs_dir={tmp_path}"])

    return run


@pytest.mark.parametrize("share", GRADES)
def test_a_graded_reward_is_right_as_often_as_it_says(share: float) -> None:
    """Of right and of wrong responses alike, and always the same about the same; 4,000 of each, 4 standard errors."""
    prompts = [f"{number}+0=" for number in range(8000)]
    answers = [str(number) for number in range(8000)]
    responses = [answer if number % 2 else "?" for number, answer in enumerate(answers)]
    scores = GRADES[share](prompts, responses, answers, category=["sums"] * 8000)
    assert scores == GRADES[share](prompts, responses, answers)
    assert set(scores) == {0.0, 1.0}
    for kind in (0, 1):
        right = sum(score == kind for score in scores[kind::2]) / 4000
        assert abs(right - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_graded_rewards_err_independently() -> None:
    """Where one is wrong the next is as often right as elsewhere."""
    prompts, n = [f"{number}+0=" for number in range(8000)], 8000
    wrong = {share: [score == 1 for score in grade(prompts, ["?"] * n, ["!"] * n)] for share, grade in GRADES.items()}
    both = sum(a and b for a, b in zip(wrong[0.7], wrong[0.5], strict=True)) / n
    assert abs(both - 0.3 * 0.5) < 4 * (0.15 * 0.85 / n) ** 0.5


def test_one_reward_model_is_the_plain_pipeline(short_run: Callable[[str], LaserCLI]) -> None:
    run = short_run("single")
    decisions = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    assert {decision["arm"] for decision in decisions} == {"general"}
    assert run.summary["reward_model_forwards"] == {"general": 96 * 10}


def test_synthetic_rewards_judge(short_run: Callable[[str], LaserCLI]) -> None:
    run = short_run("synthetic")
    assert run.selector.arms == ["right_in_9_of_10", "right_in_7_of_10", "right_in_5_of_10"]
    assert sum(run.summary["reward_model_forwards"].values()) == 96 * 10
    assert run.summary["labels_missing"] == {}


def test_each_kind_of_task_in_a_batch_has_its_own_judge(short_run: Callable[[str], LaserCLI]) -> None:
    run = short_run("mixed")
    decisions = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    first = [decision["category"] for decision in decisions if decision["step"] == 0]
    assert sorted(first) == ["addition", "comparing", "reversing", "sorting"]
    assert len({decision["arm"] for decision in decisions}) > 1
    taught = [decision["reward"] for decision in decisions if decision["reward"]]
    assert taught
    assert all(set(rewards) == set(run.selector.arms) for rewards in taught)  # cooling asks all
