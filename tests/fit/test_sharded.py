"""Policies whose weights two real processes share out among themselves (FSDP2), over gloo."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.run.folder import RunFolder
from laser_pl.run.state import digest, run_state
from tests.forked import run_processes

Command = Callable[..., list[str]]
Fit = Callable[..., LaserCLI]
Plug = Callable[..., str]

STRATEGY = json.dumps(
    {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy", "init_args": {"tensor_parallel_size": 1}}
)


@pytest.fixture(scope="module")
def size() -> list[str]:
    """One iteration of 2 + 2 + 1 prompts: of the last batch one process has nothing. Small forwards, so of many."""
    return [
        "--data.prompts_per_iteration=5", "--data.batch_size=2", "--data.rollouts.n=4", "--data.rollout_batch_size=2",
        "--data.evaluation_batch_size=3", "--model.tokens_per_forward=40", "--checkpoint_every=1",
        "--trainer.limit_val_batches=0",
        "--selection.granularity=prompt", "--selection.check_ranks=true", "--trainer.gradient_clip_val=0.5",
    ]  # fmt: skip


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return run_processes([*command, "--trainer.devices=2", f"--trainer.strategy={STRATEGY}"], 2)


def finished(command: list[str], folder: Path) -> RunFolder:
    done = run(command)
    assert done.returncode == 0, done.stderr
    return RunFolder(folder / "runs" / "small")


@pytest.fixture(scope="module")
def two(fit_command: Command, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An undisturbed run of two processes."""
    folder = tmp_path_factory.mktemp("two")
    return finished(fit_command(folder), folder)


@pytest.fixture(scope="module")
def one(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run of one."""
    return fit(tmp_path_factory.mktemp("one")).folder


def assert_alike(one: RunFolder, other: RunFolder) -> None:
    """The same choices; numbers up to the order of sums, in decisions, adapter and checkpoint."""
    ours, theirs = (run_state(folder)["decisions"] for folder in (one, other))
    assert len(ours) == 5
    for name in ("arm", "prompt_ids", "pairs", "reward_model_forwards"):
        assert [d[name] for d in ours] == [d[name] for d in theirs]
    for name in ("loss", "dpo", "nll"):
        assert [d[name] for d in ours] == pytest.approx([d[name] for d in theirs], abs=1e-5)
    adapters = [load_file(folder.adapter / "adapter_model.safetensors") for folder in (one, other)]
    torch.testing.assert_close(*adapters, atol=1e-5, rtol=0)
    assert max(float(tensor.abs().max()) for name, tensor in adapters[0].items() if "lora_B" in name) > 1e-4
    kept = [torch.load(folder.checkpoint, weights_only=True) for folder in (one, other)]
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(*(each[part] for each in kept), atol=1e-5, rtol=0)


def test_two_processes_do_what_one_would_and_leave_the_same_files(two: RunFolder, one: RunFolder) -> None:
    assert_alike(two, one)


def test_a_killed_run_goes_on_to_the_same_bits_and_in_one_process_to_the_same_choices(
    two: RunFolder, fit_command: Command, fit: Fit, tmp_path: Path, plug: Plug
) -> None:
    killed = run(fit_command(tmp_path / "a", plug("on_train_batch_start", 2, signal.SIGKILL, process=1)))
    assert killed.returncode not in (0, 2)
    assert "laser_pl: Another process of the run ended, or did not answer in time. Go on with: python" in killed.stderr
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    resumed = finished(fit_command(tmp_path / "a", "--resume"), tmp_path / "a")
    ours, theirs = run_state(resumed), run_state(two)
    assert {part: digest(ours[part]) for part in ours} == {part: digest(theirs[part]) for part in theirs}
    assert_alike(fit(tmp_path / "b", "--resume").folder, two)


def test_two_processes_go_on_with_a_run_of_one(
    one: RunFolder, fit_command: Command, fit: Fit, tmp_path: Path, plug: Plug
) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, plug("on_train_batch_start", 1, signal.SIGTERM))
    assert_alike(finished(fit_command(tmp_path, "--resume"), tmp_path), one)


def test_two_processes_predict_what_one_would(two: RunFolder, tmp_path: Path) -> None:
    """Four prompts in batches of three: one process has a prompt and the other three."""
    given = ["predict", f"--config={two.config}", f"--ckpt_path={two.checkpoint}"]
    done = run_processes([*given, f"--out={tmp_path / 'two' / 'predictions.jsonl'}"], 2)
    assert done.returncode == 0, done.stderr
    alone = ["--trainer.devices=1", "--trainer.strategy=auto", f"--out={tmp_path / 'one.jsonl'}"]
    main([*given, *alone])
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["predictions.jsonl"]
    found = [[json.loads(line) for line in path.read_text().splitlines()]
             for path in (tmp_path / "two" / "predictions.jsonl", tmp_path / "one.jsonl")]  # fmt: skip
    assert len(found[0]) == 4
    for ours, theirs in zip(*found, strict=True):
        for name in ("mean", "score"):
            assert ours.pop(name) == pytest.approx(theirs.pop(name), abs=1e-4)
        assert ours == theirs
