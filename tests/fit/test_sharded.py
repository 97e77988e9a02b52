"""Policies whose weights two real processes share out among themselves (FSDP2), over gloo."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
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

STRATEGY = json.dumps(
    {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy", "init_args": {"tensor_parallel_size": 1}}
)


@pytest.fixture(scope="module")
def size() -> list[str]:
    """One iteration of 4 + 1 prompts: of the last batch one process has nothing. Small forwards, so there are many."""
    return [
        "--trainer.max_epochs=1", "--data.prompts_per_iteration=5", "--data.batch_size=4", "--data.rollouts.n=4",
        "--data.rollout_batch_size=2", "--data.evaluation_batch_size=3", "--checkpoint_every=1",
        "--model.tokens_per_forward=40", "--selection.granularity=prompt", "--selection.check_ranks=true",
        "--trainer.gradient_clip_val=0.5",
    ]  # fmt: skip


def run(command: list[str], processes: int = 2) -> subprocess.CompletedProcess[str]:
    return run_processes([*command, f"--trainer.devices={processes}", f"--trainer.strategy={STRATEGY}"], processes)


def decisions_of(folder: RunFolder) -> list[dict[str, Any]]:
    decisions: list[dict[str, Any]] = run_state(folder)["decisions"]
    return decisions


@pytest.fixture(scope="module")
def two(fit_command: Command, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An undisturbed run of two processes."""
    folder = tmp_path_factory.mktemp("two")
    done = run(fit_command(folder))
    assert done.returncode == 0, done.stderr
    return RunFolder(folder / "runs" / "small")


def assert_alike(folder: RunFolder, one: LaserCLI) -> None:
    """The same choices; numbers up to the order of sums."""
    ours, theirs = decisions_of(folder), decisions_of(one.folder)
    for name in ("arm", "prompt_ids", "pairs", "reward_model_forwards"):
        assert [d[name] for d in ours] == [d[name] for d in theirs]
    for name in ("loss", "dpo", "nll"):
        assert [d[name] for d in ours] == pytest.approx([d[name] for d in theirs], abs=1e-5)


def test_two_processes_do_what_one_would(two: RunFolder, fit: Callable[..., LaserCLI], tmp_path: Path) -> None:
    one = fit(tmp_path)
    assert_alike(two, one)
