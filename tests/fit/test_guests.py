"""What the user brings to a run: functions that tell it something, callbacks that log, loggers whose service fails."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.run.loggers import go_offline_without_key
from laser_pl.run.state import digest, run_state
from tests.runs import Fit

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


GUESTS = '''
import os
import signal
import sys

import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

calls = []


def telling(prompts, completions, completion_ids, trainer_state, log_extra, log_metric, **columns):
    """Tells something in every other call."""
    calls.append(([len(ids) for ids in completion_ids], trainer_state.global_step, trainer_state.max_steps))
    log_extra("length", [len(text) for text in completions])
    if len(calls) % 2:
        log_metric("length", 1.0)
        log_metric("length", 2.0)
    return [float(len(text)) for text in completions]


def leaving(prompts, completions, **columns):
    sys.exit(0)


class Says(Callback):
    def on_train_epoch_end(self, trainer, module):
        for logger in trainer.loggers:
            logger.log_metrics({"own/with": torch.tensor(1.5)}, step=trainer.global_step)
            logger.log_metrics({"own/without": torch.ones(()).numpy()})


class Failing(Logger):
    name, version = "failing", 0

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        raise ConnectionError("the service is gone")

    def log_graph(self, model, input_array=None):
        raise ConnectionError("the service is gone")


def moving(prompts, completions, **columns):
    """Goes elsewhere at its first call, and is interrupted there, if it is asked to."""
    calls.append(os.getcwd())
    os.chdir(os.environ["ELSEWHERE"])
    if len(calls) == 2 and "INTERRUPTED" in os.environ:
        os.kill(os.getpid(), signal.SIGTERM)
    return [float(len(text)) for text in completions]


def staying(prompts, completions, **columns):
    return [float(len(text)) for text in completions]
'''


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's; its name, another one in every test."""
    name = f"guests_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(GUESTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def judged_by(guests: str, *names: str) -> list[str]:
    """A run whose reward models are functions of the user's, which take turns."""
    arms = {name: {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"{guests}.{name}"}}
            for name in names}  # fmt: skip
    return [f"--selection.reward_models={json.dumps(arms)}", "--selection.bandit=RoundRobin"]


def rows_of(run: LaserCLI) -> list[dict[str, str]]:
    with run.folder.metrics.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_function_sees_and_tells_what_trl_lets_it(fit: Fit, tmp_path: Path, guests: str) -> None:
    run = fit(tmp_path, *judged_by(guests, "telling"))
    module = __import__(guests)
    assert [step for _, step, _ in module.calls] == [0, 1, 2, 3]
    assert {steps for *_, steps in module.calls} == {4}
    assert all(count > 0 for counts, *_ in module.calls for count in counts)
    trained = [row for row in rows_of(run) if row["train/loss"]]
    assert [row["reward/length"] for row in trained] == ["1.5", "", "1.5", ""]


def test_a_function_that_leaves_has_failed_and_the_run_goes_on(fit: Fit, tmp_path: Path, guests: str) -> None:
    run = fit(tmp_path, *judged_by(guests, "leaving", "telling"))
    assert run.folder.summary.exists()
    assert run.summary["labels_missing"]["leaving"]["exception"] > 0


def test_callbacks_log_tensors_and_without_a_step(fit: Fit, tmp_path: Path, guests: str) -> None:
    run = fit(tmp_path, f"--trainer.callbacks=[{guests}.Says]")
    rows = rows_of(run)
    assert [row["own/with"] for row in rows if row["own/with"]] == ["1.5"]
    assert [row["own/without"] for row in rows if row["own/without"]] == ["1.0"]
    assert "cannot be read" not in run.folder.report.read_text(encoding="utf-8")


def test_checkpoints_of_the_users_lie_in_the_runs_folder(fit: Fit, tmp_path: Path) -> None:
    best = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
            "init_args": {"monitor": "validation/accuracy/sampled/average", "mode": "max"}}  # fmt: skip
    latest = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "latest"}}
    run = fit(tmp_path, f"--trainer.callbacks={json.dumps([best, latest])}", "--trainer.profiler=simple")
    assert (run.folder.path / "fit-profile.txt").read_text(encoding="utf-8").startswith("FIT Profiler Report")
    kept = {str(path.relative_to(run.folder.path)) for path in run.folder.checkpoint.parent.glob("*/*")}
    assert kept == {"checkpoints/kept/epoch=0-step=4.ckpt", "checkpoints/kept-2/latest.ckpt"}
    assert run.folder.checkpoint.exists()
    assert not list(Path.cwd().glob("None"))


def test_a_logger_whose_service_fails_costs_its_log(
    fit: Fit, tmp_path: Path, guests: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = fit(tmp_path, f"--trainer.logger={guests}.Failing")
    assert len([row for row in rows_of(run) if row["train/loss"]]) == 4
    told = [record.getMessage() for record in caplog.records if "cannot log any more" in record.getMessage()]
    assert run.folder.summary.exists()
    assert told == ["Failing cannot log any more, and the run goes on without: ConnectionError: the service is gone"]


def test_a_function_that_changes_the_folder_changes_nothing_else(
    fit_command: Callable[..., list[str]],
    tmp_path: Path,
    guests: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every path is one from the folder where the command was given, and the classifier is loaded after it was left."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    shutil.copytree(EXPERIMENTS / "quickstart" / "policy", tmp_path / "policy")
    classifier = EXPERIMENTS / "quickstart" / "reward_models" / "longer"
    shutil.copytree(classifier, tmp_path / "classifier")

    def run(runs: str, function: str, *more: str) -> LaserCLI:
        monkeypatch.chdir(tmp_path)
        judge = {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": {"weights": {"name": "classifier"}}}
        own = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"{guests}.{function}"}}
        logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": f"{runs}-logs"}}
        relative = [
            f"--runs_dir={runs}", "--model.weights.name=policy", "--data.validation=few.jsonl", "--data.test=few.jsonl",
            f"--selection.reward_models={json.dumps({'own': own, 'judge': judge})}", "--selection.bandit=RoundRobin",
            f"--trainer.logger={json.dumps(logger)}", "--checkpoint_every=1",
        ]  # fmt: skip
        return main(fit_command(tmp_path, *relative, *more))

    expected = run_state(run("staying", "staying").folder)
    moved = run("moving", "moving")
    assert {name: digest(part) for name, part in run_state(moved.folder).items()} == {
        name: digest(part) for name, part in expected.items()
    }
    monkeypatch.setenv("INTERRUPTED", "yes")
    __import__(guests).calls.clear()
    with pytest.raises(SystemExit) as end:
        run("resumed", "moving")
    assert end.value.code == 128 + signal.SIGTERM
    resumed = run("resumed", "moving", "--resume")
    assert {name: digest(part) for name, part in run_state(resumed.folder).items()} == {
        name: digest(part) for name, part in expected.items()
    }
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "moving-logs").is_dir()


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("machine git.example.org login me password x", "offline"),
        ("machine api.wandb.ai login user password x", None),
        ("no netrc at all {", "offline"),
        (None, "offline"),
    ],
)
def test_only_a_key_for_wandbs_host_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, mode: str | None
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if text is not None:
        (tmp_path / ".netrc").write_text(text, encoding="utf-8")
        (tmp_path / ".netrc").chmod(0o600)
    go_offline_without_key()
    assert os.environ.get("WANDB_MODE") == mode
    monkeypatch.delenv("WANDB_MODE", raising=False)
