"""Runs of several real processes over gloo: one started by Lightning, one by torchrun, others like torchrun's."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.run.folder import RunFolder
from laser_pl.run.state import digest, run_state
from tests.forked import run_processes

Command = Callable[..., list[str]]
Plug = Callable[..., str]


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two iterations of 5 + 5 + 1 prompts: no batch is even, and of the last one somebody has nothing."""
    return [
        "--trainer.max_epochs=2", "--data.prompts_per_iteration=11", "--data.batch_size=5", "--data.rollouts.n=4",
        "--data.rollout_batch_size=4", "--data.evaluation_batch_size=3", "--checkpoint_every=1",
        "--selection.granularity=prompt", "--selection.signal=Cooling", "--selection.signal.share=0.5",
        "--selection.check_ranks=true", "--selection.agreement_probe=3",
    ]  # fmt: skip


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]


def several(processes: int) -> list[str]:
    return [f"--trainer.devices={processes}", "--trainer.strategy=ddp"]


def launch(command: list[str], launcher: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """As a user does, by Lightning or by another launcher."""
    started = [sys.executable, "-m", *launcher, "laser_pl", *command, *several(2)]
    return subprocess.run(started, check=False, capture_output=True, text=True, timeout=300)


def run(command: list[str], processes: int = 2) -> subprocess.CompletedProcess[str]:
    """The same, sooner."""
    return run_processes([*command, *several(processes)], processes)


def decisions_of(folder: RunFolder) -> list[dict[str, Any]]:
    """Without what the clock says."""
    decisions: list[dict[str, Any]] = run_state(folder)["decisions"]
    return decisions


@pytest.fixture(scope="module")
def two(fit_command: Command, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An undisturbed run of two processes, which Lightning starts."""
    folder = tmp_path_factory.mktemp("two")
    done = launch(fit_command(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Test accuracy of sampled responses") == 1
    assert [path.name for path in (folder / "runs").iterdir()] == ["small"]
    return RunFolder(folder / "runs" / "small")


def assert_same(one: RunFolder, other: RunFolder) -> None:
    """To the last bit."""
    ours, theirs = run_state(one), run_state(other)
    assert {part: digest(ours[part]) for part in ours} == {part: digest(theirs[part]) for part in theirs}


def assert_alike(folder: RunFolder, one: LaserCLI) -> None:
    """The same choices; numbers up to the order of sums."""
    ours, theirs = decisions_of(folder), decisions_of(one.folder)
    assert [d["arm"] for d in ours] == [d["arm"] for d in theirs]
    assert [d["prompt_ids"] for d in ours] == [d["prompt_ids"] for d in theirs]
    for name in ("pairs", "reward_model_forwards", "missing", "passed_over"):
        assert [d[name] for d in ours] == [d[name] for d in theirs]
    for name in ("loss", "dpo", "nll"):
        assert [d[name] for d in ours] == pytest.approx([d[name] for d in theirs], abs=1e-5)
    adapters = [load_file(f.adapter / "adapter_model.safetensors") for f in (folder, one.folder)]
    moved = 0.0
    for name, tensor in adapters[0].items():
        torch.testing.assert_close(tensor, adapters[1][name], atol=1e-5, rtol=0)
        moved = max(moved, float(tensor.abs().max()) if "lora_B" in name else 0.0)
    assert moved > 1e-4  # lora_B begins at 0: there was something to agree on
    summary = json.loads(folder.summary.read_text())
    for name in ("accuracy", "arm_share", "reward_model_forwards", "steps", "steps_without_pairs"):
        assert summary[name] == one.summary[name]


def test_two_processes_do_what_one_would(two: RunFolder, fit: Callable[..., LaserCLI], tmp_path: Path) -> None:
    assert_alike(two, fit(tmp_path))


def test_two_processes_sample_ahead_what_one_would(
    fit_command: Command, fit: Callable[..., LaserCLI], tmp_path: Path
) -> None:
    args = ["--data.staleness=1", "--trainer.max_epochs=3"]
    done = run(fit_command(tmp_path / "two", *args))
    assert done.returncode == 0, done.stderr
    assert_alike(RunFolder(tmp_path / "two" / "runs" / "small"), fit(tmp_path / "one", *args))


def test_two_processes_predict_what_one_would(two: RunFolder, tmp_path: Path) -> None:
    given = ["predict", f"--config={two.config}", f"--ckpt_path={two.checkpoint}"]
    done = run([*given, f"--out={tmp_path / 'two' / 'predictions.jsonl'}"])
    assert done.returncode == 0, done.stderr
    main([*given, f"--out={tmp_path / 'one.jsonl'}", "--trainer.devices=1", "--trainer.strategy=auto"])
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["predictions.jsonl"]
    lines = [[json.loads(line) for line in path.read_text().splitlines()]
             for path in (tmp_path / "two" / "predictions.jsonl", tmp_path / "one.jsonl")]  # fmt: skip
    for name in ("prompt_id", "arm", "response", "grade", "sampled"):
        assert [line[name] for line in lines[0]] == [line[name] for line in lines[1]]


def test_so_do_three_with_one_arm_per_batch(fit_command: Command, fit: Callable[..., LaserCLI], tmp_path: Path) -> None:
    args = ["--selection.granularity=batch", "--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=2"]
    done = run(fit_command(tmp_path / "three", *args), processes=3)
    assert done.returncode == 0, done.stderr
    assert_alike(RunFolder(tmp_path / "three" / "runs" / "small"), fit(tmp_path / "one", *args))


def test_a_signal_to_one_process_lets_all_save_and_the_resumed_run_ends_the_same(
    two: RunFolder, fit_command: Command, tmp_path: Path, plug: Plug
) -> None:
    """And one arm for each process's share is one more way to choose."""
    ended = run(fit_command(tmp_path, plug("on_train_batch_start", 1, signal.SIGTERM)))
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    (told,) = [line for line in ended.stderr.splitlines() if line.startswith("laser_pl: ")]
    assert told.startswith("laser_pl: Interrupted by SIGTERM. Go on with: python -m laser_pl fit ")
    folder = RunFolder(tmp_path / "runs" / "small")
    assert torch.load(folder.checkpoint, weights_only=True)["global_step"] == 2
    resumed = run(fit_command(tmp_path, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert_same(folder, two)


def test_when_one_process_dies_the_others_end_and_say_so(
    two: RunFolder, fit_command: Command, tmp_path: Path, plug: Plug
) -> None:
    ended = run(fit_command(tmp_path, plug("on_train_batch_start", 4, signal.SIGKILL, process=1)))
    assert ended.returncode not in (0, 2)
    assert "laser_pl: Another process of the run ended, or did not answer in time. Go on with: python" in ended.stderr
    resumed = run(fit_command(tmp_path, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert_same(RunFolder(tmp_path / "runs" / "small"), two)


TOLD = """
import os

def told(prompts, log_metric, **columns):
    log_metric("process", int(os.environ["RANK"]))
    if os.environ["RANK"] == "1":
        log_metric("second", 7.0)
    return [1.0] * len(prompts)
"""


def test_torchrun_starts_it_too_each_process_may_have_its_arm_and_functions_log_means_over_processes(
    fit_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one of them logged alone arrives; what nobody logged in a step is not in it."""
    (tmp_path / "told_rewards.py").write_text(TOLD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    function = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "told_rewards.told"}}
    constraint = json.dumps({"told": {"reward_model": function, "threshold": 0.5}})
    args = ["--selection.granularity=rank", "--trainer.max_epochs=1", f"--selection.constraints={constraint}"]
    (tmp_path / "runs" / "small").mkdir(parents=True)  # the name is taken: all processes have to agree on another
    done = launch(fit_command(tmp_path, *args), TORCHRUN)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["small", "small-2"]
    assert not list((tmp_path / "runs" / "small").iterdir())
    decisions = decisions_of(RunFolder(tmp_path / "runs" / "small-2"))
    assert [(d["step"], len(d["prompt_ids"])) for d in decisions] == [(0, 3), (0, 2), (1, 3), (1, 2), (2, 1)]
    with (tmp_path / "runs" / "small-2" / "metrics.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["train/loss"]]
    assert [row["reward/process"] for row in rows] == ["0.5", "0.5", "0.0"]
    assert [row["reward/second"] for row in rows] == ["7.0", "7.0", ""]  # the second has nothing of the last batch
