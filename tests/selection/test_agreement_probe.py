"""The agreement probe asks everybody, and changes nothing but the bill."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from laser_pl.batches import Prompt, RolloutBatch
from laser_pl.commands.cli import LaserCLI
from laser_pl.report.agreement import agreement
from laser_pl.report.records import read_records
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.health import Health
from laser_pl.rewards.pool import Pool
from laser_pl.run.state import digest, run_state
from laser_pl.selection.agreement import probe
from laser_pl.selection.panel import Panel
from tests.runs import Fit

CPU = torch.device("cpu")
FUNCTIONS = """
def high(prompts, completions, **columns):
    return [float(sum(map(ord, text))) for text in completions]

def higher(prompts, completions, **columns):
    return [2.0 * score for score in high(prompts, completions)]

def low(prompts, completions, **columns):
    return [-score for score in high(prompts, completions)]
"""


@pytest.fixture(scope="module")
def size() -> list[str]:
    return ["--trainer.max_epochs=2", "--data.prompts_per_iteration=12", "--data.rollouts.n=4"]


@pytest.fixture(scope="module")
def plain(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    return fit(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def probed(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    return fit(tmp_path_factory.mktemp("probed"), "--selection.agreement_probe=3")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_probed_run_does_what_it_would_do_otherwise(plain: LaserCLI, probed: LaserCLI) -> None:
    one, other = (run_state(run.folder) for run in (plain, probed))
    for state in (one, other):
        state["selection"]["pool"].pop("forwards")
        for name in ("reward_model_forwards", "reward_model_forwards_avoided"):
            state["summary"].pop(name)
        for decision in state["decisions"]:
            decision.pop("reward_model_forwards")
    assert one.pop("agreement") == ""
    assert other.pop("agreement") != ""
    assert {part: digest(one[part]) for part in one} == {part: digest(other[part]) for part in other}


def test_every_arm_scored_the_same_few_prompts_of_every_iteration(probed: LaserCLI) -> None:
    found = lines_of(probed.folder.agreement)
    assert [(line["iteration"], line["step"]) for line in found] == [(0, 0)] * 3 + [(1, 3)] * 3
    pool = probed.selector.pool
    for line in found:
        rows = [
            row
            for path in probed.folder.rollouts(line["iteration"]).iterdir()
            for row in pq.read_table(path).to_pylist()
        ]
        (row,) = (row for row in rows if row["prompt_id"] == line["prompt_id"])
        assert line["category"] == row["category"]
        assert list(line["scores"]) == probed.selector.arms
        for arm, scores in line["scores"].items():
            own = pool.ask(arm, [Prompt("p", row["text"], row["text"])], [row["responses"]], CPU).labels[0]
            assert scores == pytest.approx(own.tolist(), abs=1e-5)


def test_forwards_of_the_probe_are_counted(plain: LaserCLI, probed: LaserCLI) -> None:
    """Three prompts of four responses in each of two iterations, for each of five arms; each in its first step."""
    for arm in plain.selector.arms:
        more = probed.summary["reward_model_forwards"][arm] - plain.summary["reward_model_forwards"][arm]
        assert more == 3 * 4 * 2
    for before, after in zip(*(lines_of(run.folder.selection) for run in (plain, probed)), strict=True):
        asked = [sum(decision["reward_model_forwards"].values()) for decision in (before, after)]
        assert asked[1] - asked[0] == (5 * 3 * 4 if before["step"] in (0, 3) else 0)


def test_an_arm_that_fails_in_the_probe_is_not_put_aside(rollouts: Callable[..., RolloutBatch]) -> None:
    class Broken(RewardModel):
        def score(self, prompts: Any, responses: Any) -> Any:
            raise RuntimeError("out of order")

    class Length(RewardModel):
        def score(self, prompts: Any, responses: Any) -> Any:
            return [[float(len(text)) for text in row] for row in responses]

    names = ["broken", "length", "aside"]
    pool = Pool(dict(zip(names, (Broken(), Length(), Length()), strict=True)), health=Health(names, max_failures=1))
    pool.health.failed("aside", "for a reason of its own")
    batch = rollouts([[[5, 1], [6, 7, 1]], [[8, 1], [9, 1]]], texts=[["a", "bb"], ["ccc", "d"]])
    found = probe([batch], 9, 0, names, Panel(pool))
    assert {line["prompt_id"]: line["scores"] for line in found} == {
        "p0": {"broken": [None, None], "length": [1.0, 2.0]}, "p1": {"broken": [None, None], "length": [3.0, 1.0]}
    }  # fmt: skip
    assert pool.health.may_be_asked("broken")
    assert pool.forwards == {"broken": 4, "length": 4, "aside": 0}
    assert not any(pool.missing.values())


def test_a_negative_number_is_refused(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, "--selection.agreement_probe=-1")
    assert "agreement_probe must be >= 0, got -1. Set selection.agreement_probe" in capsys.readouterr().err


def test_arms_that_agree_always_or_never_are_named_in_the_log_and_on_the_page(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "probed_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    arms = {
        name: {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"probed_functions.{name}"}}
        for name in ("high", "higher", "low")
    }
    with caplog.at_level(logging.WARNING):
        run = fit(tmp_path, f"--selection.reward_models={json.dumps(arms)}", "--selection.agreement_probe=12")
    records = read_records(run.folder.path)
    assert agreement(records.probed, ["high", "higher", "low"]) == [[None, 1, 0], [1, None, 0], [0, 0, None]]
    page = run.folder.report.read_text()
    for told in (
        "judge almost always alike: 'high' and 'higher' order 100% of",
        "judge almost never alike: 'high' and 'low' order 0% of",
    ):
        assert told in caplog.text
        assert told in page.replace("&#39;", "'")
    assert "pairs ordered alike, %" in page
