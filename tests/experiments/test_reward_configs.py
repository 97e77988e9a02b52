"""Every kind's config runs: a few steps of the command in its header."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from laser_pl.commands.cli import LaserCLI, main

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "experiments" / "rewards").glob("*.yaml"))
PROMPTS = 32
SHORT = [
    "--trainer.max_epochs=1", f"--data.prompts_per_iteration={PROMPTS}", "--data.batch_size=4",
    "--model.evaluation.n=1", "--data.evaluation_batch_size=8", "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    """What an earlier run leaves behind."""
    run = main(["fit", "--config=experiments/quickstart.yaml", *SHORT, f"--runs_dir={tmp_path}", "--name=earlier"])
    return str(run.folder.adapter)


def short_run(config: Path, folder: Path, *args: str) -> LaserCLI:
    configs = ["--config=experiments/quickstart.yaml", f"--config={config}"]
    return main(["fit", *configs, *SHORT, f"--runs_dir={folder}", *args])


def assert_all_arms_judged(run: LaserCLI, config: Path) -> None:
    """The arms are the config's, each was asked, and pairs came of it."""
    given = yaml.safe_load(config.read_text())["selection"].get("reward_models")
    if given is not None:
        assert run.selector.arms == list(given)
    decisions = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    assert len(decisions) >= 8
    assert sum(d["pairs"] for d in decisions) > 0
    assert {d["arm"] for d in decisions} == set(run.selector.arms)
    assert not any(kind != "none" for kinds in run.summary["labels_missing"].values() for kind in kinds)


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], LaserCLI]:
    """A run whose arms take turns, done once: ``in_turn(config)``."""
    return cache(lambda config: short_run(config, tmp_path_factory.mktemp("run"), "--selection.bandit=RoundRobin"))


@pytest.mark.parametrize(
    "config", [c for c in CONFIGS if c.stem not in {"remote", "chat", "implicit"}], ids=lambda path: path.stem
)
def test_config_runs(config: Path, in_turn: Callable[[Path], LaserCLI]) -> None:
    assert_all_arms_judged(in_turn(config), config)


def test_the_implicit_rewards_config_runs_with_the_adapter_of_an_earlier_run(adapter: str, tmp_path: Path) -> None:
    config = next(c for c in CONFIGS if c.stem == "implicit")
    spec = yaml.safe_load(config.read_text())["selection"]["reward_models"]
    assert spec["implicit"]["init_args"].pop("adapter") == "runs/quickstart/adapter"
    spec["implicit"]["init_args"]["adapter"] = adapter
    run = short_run(config, tmp_path, f"--selection.reward_models={json.dumps(spec)}")
    assert_all_arms_judged(run, config)
    assert run.summary["reward_model_forwards"] == {"implicit": 2 * PROMPTS * 10}


def test_an_ensembles_forwards_are_its_members(tmp_path: Path) -> None:
    config = next(c for c in CONFIGS if c.stem == "ensembles")
    run = short_run(config, tmp_path, "--selection.bandit=Fixed", "--selection.bandit.arm=min")
    assert run.summary["reward_model_forwards"] == {"mean": 0, "min": 3 * PROMPTS * 10, "cautious": 0, "agreement": 0}
    assert run.summary["reward_model_forwards_avoided"] == 3 * 3 * PROMPTS * 10


def test_two_judges_fit_the_memory_of_two(in_turn: Callable[[Path], LaserCLI]) -> None:
    run = in_turn(next(c for c in CONFIGS if c.stem == "memory"))
    held = run.selector.pool.memory
    assert len(held.held) == 2
    assert sum(held.reward_models[name].size() for name in held.held) <= held.budget


def test_the_constraints_config_forbids_something(tmp_path: Path) -> None:
    config = next(c for c in CONFIGS if c.stem == "constraint")
    run = short_run(config, tmp_path, "--data.prompts_per_iteration=128")
    assert sum(count["failed"] for count in run.summary["constraints"]["format"].values()) > 0
