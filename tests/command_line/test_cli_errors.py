"""Every mistake a user can mend ends with exit code 2 and one line; `test_bad_input.py` has others, word by word."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from laser_pl.commands.cli import main

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"
ROW = {"prompt": "A 12+ 7=", "answer": "19", "category": "addition"}


@pytest.fixture
def base(fit_command: Callable[..., list[str]], tmp_path: Path) -> list[str]:
    """The quickstart, cut down to one step."""
    rows = [json.dumps({**ROW, "prompt": f"A 12+ {i}="}) for i in range(4)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    return fit_command(tmp_path, f"--data.train={tmp_path / 'train.jsonl'}")


def told(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the user reads, after checking its form."""
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    *progress, error = capsys.readouterr().err.splitlines(keepends=True)
    assert all(re.match(r"\[\d:\d\d:\d\d\] ", line) for line in progress)
    assert error.startswith("laser_pl: ")
    assert error.endswith("\n")
    assert "Traceback" not in error
    return error


def arm(class_name: str, folder: object) -> str:
    init_args = {"weights": {"name": str(folder)}}
    reward_model = {"class_path": f"laser_pl.rewards.{class_name}", "init_args": init_args}
    return f"--selection.reward_models={json.dumps({'only': reward_model})}"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--selection.bandit.alfa=0.1"], ["alfa"]),
        (["--model.betta=0.1"], ["betta"]),
        (["--selection.bandit=LinearBandit"], ["selection.bandit", "LinearBandit"]),
        (["--selection.signal=laser_pl.feedback.signals.Lost"], ["selection.signal", "signals.Lost"]),
        (["--data.batch_size=many"], ["batch_size", "many"]),
        (["--trainer.max_epochs=1.5"], ["max_epochs", "1.5"]),
        (["--selection.granularity=token"], ["granularity", "token", "batch", "prompt"]),
        (["--model.weights.dtype=float8"], ["dtype", "float8", "bfloat16"]),
        (["--selection.pairs.per_prompt=0"], ["per_prompt must be >= 1", "got 0", "selection.pairs.per_prompt"]),
        (["--data.rollouts.temperature=-1"], ["temperature must be >= 0", "-1"]),
        (["--data.batch_size=0"], ["batch_size must be >= 1", "got 0"]),
        (["--data.prompts_per_iteration=0"], ["prompts_per_iteration must be >= 1", "got 0"]),
        (["--data.evaluation_batch_size=0"], ["evaluation_batch_size must be >= 1", "got 0"]),
        (["--model.nll_weight=-1"], ["nll_weight must be >= 0", "-1", "model.nll_weight"]),
        (["--selection.reward_models={}"], ["selection.reward_models is empty"]),
        (["--model.lora.rank=0"], ["model.lora", "positive integer", "0"]),
        (["--model.weights.name=no/where"], ["no/where"]),
        (
            [f"--model.weights.name={WORLD / 'reward_models' / 'longer'}"],
            ["no causal language", "Classification"],
        ),
        (["--checkpoint_every=0"], ["checkpoint_every must be >= 1", "got 0"]),
        (["--keep_iterations=0"], ["keep_iterations must be >= 1", "got 0"]),
        (["--trainer.devices=2", "--trainer.strategy=ddp_spawn"], ["trainer.strategy starts copies", "ddp"]),
        (["--model.max_bad_steps=0"], ["max_bad_steps must be >= 1", "got 0", "model.max_bad_steps"]),
        (["--name=../elsewhere"], ["--name '../elsewhere'"]),
        (["--trainer.precision=bf16-true"], ["trainer.precision bf16-true", "model.weights.dtype", "bf16-mixed"]),
        (["--data.train=no/where"], ["no/where"]),
        (["--data.columns.prompt=question"], ["'question'", "data.columns.prompt"]),
        (
            ["--data.template=laser_pl.data.templates.Jinja", "--data.template.template={{ prompt }} {{ unit }}"],
            ["data.template", "'unit'"],
        ),
        (["--trainer.reload_dataloaders_every_n_epochs=2"], ["reload_dataloaders_every_n_epochs is 2", "set it to 1"]),
        (["--trainer.accelerator=abacus"], ["abacus"]),
        (["--config=no/such.yaml"], ["no/such.yaml"]),
        (["--ckpt_path=no/such.ckpt"], ["no/such.ckpt"]),
        ([arm("SequenceClassifier", "no/where")], ["no/where"]),
        ([arm("Likelihood", "no/where")], ["no/where"]),
    ],
    ids=lambda value: value[0].removeprefix("--")[:60] if str(value[0]).startswith("--") else "",
)
def test_mistake_is_named(
    base: list[str], args: list[str], named: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = told([*base, *args], capsys)
    assert all(part in error for part in named), error
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(("command", "named"), [([], "fit"), (["train"], "train"), (["fit"], "model.weights")])
def test_incomplete_command_is_named(command: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in told(command, capsys)


def test_second_reward_selection_is_refused(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": {"weights": {"name": "x"}}}
    init_args = {
        "reward_models": {"x": fixed},
        "bandit": {"class_path": "laser_pl.bandits.LinUCB"},
        "context": {"class_path": "laser_pl.bandits.context.ContextPreparation"},
        "signal": {"class_path": "laser_pl.feedback.signals.Loss"},
        "normalizer": {"class_path": "laser_pl.feedback.normalizers.Raw"},
        "pairs": {"class_path": "laser_pl.data.pairs.RandomPairs"},
    }
    callback = json.dumps([{"class_path": "laser_pl.callbacks.RewardSelection", "init_args": init_args}])
    error = told([*base, f"--trainer.callbacks={callback}"], capsys)
    assert "trainer.callbacks" in error
    assert "section selection" in error
    assert not (tmp_path / "runs").exists()


def test_runs_dir_that_cannot_be_written(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    error = told([*base, f"--runs_dir={tmp_path / 'file' / 'x'}"], capsys)
    assert f"{tmp_path / 'file' / 'x'}" in error
    assert "--runs_dir" in error
    assert (tmp_path / "file").read_text() == ""


def test_pad_token_must_be_one(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = told([*base, "--model.pad_token=<nothing>"], capsys)
    assert "model.pad_token is '<nothing>', which is no token of" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("file", ["tokenizer.json", "model.safetensors", "config.json"])
def test_incomplete_policy_folder_is_named(
    base: list[str], file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(WORLD / "policy", tmp_path / "policy")
    (tmp_path / "policy" / file).unlink()
    assert str(tmp_path / "policy") in told([*base, f"--model.weights.name={tmp_path / 'policy'}"], capsys)


def test_as_a_process(base: list[str], tmp_path: Path) -> None:
    """What a shell sees: exit code, nothing on standard output, one line on standard error."""
    command = [sys.executable, "-m", "laser_pl", *base, "--selection.bandit.alpha=-1"]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "laser_pl: alpha must be >= 0, got -1.0. Set selection.bandit.alpha in the config.\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "loggers",
    ['{class_path: lost_server.Lost}', '[{class_path: lost_server.Lost}]',
     '[{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: x}}, {class_path: lost_server.Lost}]'],
    ids=["alone", "in a list", "behind another"],
)  # fmt: skip
def test_a_logger_that_cannot_be_made_says_why(
    base: list[str], loggers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser takes its failure for a value of another kind."""
    (tmp_path / "lost_server.py").write_text(
        "from lightning.pytorch.loggers import CSVLogger\n\n\nclass Lost(CSVLogger):\n"
        "    def __init__(self) -> None:\n        raise RuntimeError('no route - to the host')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    error = told([*base, f"--trainer.logger={loggers}"], capsys)
    assert error.endswith("lost_server.Lost cannot be made: no route - to the host.\n")
