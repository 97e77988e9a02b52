"""The shipped W&B sweep: W&B's own code takes it, and what its agent would start is a run of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from wandb import wandb_agent
from wandb.sdk.launch.sweeps.utils import load_sweep_config

from laser_pl.commands.cli import LaserCLI, main

try:
    from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
except ImportError:  # where older clients have it
    from wandb.sdk.internal.internal_api import Api

    _validate_config_and_fill_distribution = Api._validate_config_and_fill_distribution

# W&B's client leaves the files open from which it reads sweeps.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file.*(alpha|config-run).yaml:ResourceWarning")

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))


@pytest.fixture
def agent_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """What W&B's agent starts for some values of a sweep: ``agent_starts(sweep, values)``. Nothing is started."""
    started: list[list[str]] = []
    monkeypatch.setattr(wandb_agent, "AgentProcess", lambda command, **_: started.append(command) or _Process())
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))  # where it writes the values down
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # which it sets, for the run
        monkeypatch.setenv(name, "to be taken back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")

    def commands(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
        agent = wandb_agent.Agent(api=None, queue=None, sweep_id="sweep")
        agent._sweep_command = sweep["command"]
        args = {name: {"value": value} for name, value in values.items()}
        agent._command_run({"run_id": "run", "program": sweep["program"], "args": args})
        return started.pop()

    return commands


class _Process:
    last_sigterm_time: float | None = None


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_sweep_is_valid(path: Path) -> None:
    """By what W&B's client checks, and that it changes nothing; the server's schema is not in the client."""
    sweep = load_sweep_config(str(path))
    assert sweep == yaml.safe_load(path.read_text(encoding="utf-8"))
    assert sweep is not None
    assert _validate_config_and_fill_distribution(sweep) == sweep
    assert set(sweep) == {"program", "command", "method", "metric", "parameters"}
    assert sweep["method"] == "grid"
    assert all(set(parameter) == {"values"} for parameter in sweep["parameters"].values())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_value_is_accepted(
    path: Path,
    agent_starts: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    grid = {name: parameter["values"] for name, parameter in sweep["parameters"].items()}
    for place in range(max(len(values) for values in grid.values())):
        values = {name: column[place % len(column)] for name, column in grid.items()}
        command = agent_starts(sweep, values)
        assert command[:4] == ["/usr/bin/env", "python", "-m", "laser_pl"]
        with pytest.raises(SystemExit) as end:
            main([*command[4:], "--print_config"])
        told = capsys.readouterr()
        assert end.value.code == 0, told.err
        parsed = yaml.safe_load(told.out)
        assert parsed["selection"]["bandit"]["init_args"]["alpha"] == values["selection.bandit.alpha"]
        assert parsed["seed_everything"] == values["seed_everything"]


def test_what_the_agent_starts_is_a_run(
    agent_starts: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, cut down; the run's folder and W&B's have the sweep's values and the metric that it compares."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_MODE", "offline")
    sweep = yaml.safe_load((ROOT / "experiments/sweeps/alpha.yaml").read_text(encoding="utf-8"))
    command = agent_starts(sweep, {"selection.bandit.alpha": 0.3, "seed_everything": 2})
    assert "--selection.bandit.alpha=0.3" in command
    small = [
        "--trainer.max_epochs=1", "--data.prompts_per_iteration=16", "--data.rollouts.n=4", "--model.evaluation.n=1",
        "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", f"--runs_dir={tmp_path / 'runs'}",
        f"--trainer.logger.save_dir={tmp_path}",
    ]  # fmt: skip
    run: LaserCLI = main([*command[4:], *small])
    wandb.finish()
    wandb.teardown()
    assert run.folder.path == tmp_path / "runs" / "alpha"
    assert run.selector.bandit.alpha == 0.3  # type: ignore[attr-defined]
    assert run.model.seed == 2
    assert json.loads(run.folder.selection.read_text().splitlines()[0])["step"] == 0
    assert sweep["metric"]["name"] in run.folder.metrics.read_text().splitlines()[0].split(",")
    assert list((tmp_path / "wandb").glob("offline-run-*-run/run-run.wandb"))
