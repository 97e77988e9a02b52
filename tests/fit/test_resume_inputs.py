"""A run goes on another day, with files that somebody has changed: with what is stored, or not at all."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers.utils.chat_template_utils
from safetensors.torch import load_file, save_file

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.data.datamodule import PreferenceData
from laser_pl.data.loaders import RolloutLoader
from laser_pl.data.rollout_store import RolloutStore
from laser_pl.policy.policy import Policy
from laser_pl.run.folder import RunFolder
from tests.runs import Fit

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"
DATED = "{{ strftime_now('%j') }} {% for message in messages %}{{ message.content }}{% endfor %}"
PROMPTS = 16  # of which the iteration has 12


def arguments(folder: Path) -> list[str]:
    """Nothing is learned, so that all margins are 0 as long as prompts and policy are those of the rollouts."""
    return [
        "--optimizer=torch.optim.SGD", "--optimizer.lr=0", "--model.lora.dropout=0", "--checkpoint_every=1",
        f"--model.weights.name={folder / 'policy'}", f"--data.train={folder / 'train.jsonl'}",
        "--data.template=laser_pl.data.templates.Chat", "--data.prompts_per_iteration=12", "--data.rollouts.n=4",
        "--data.rollout_batch_size=4", "--model.evaluation.max_new_tokens=4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def begun(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that stopped: after their rollouts and before any checkpoint, and within the iteration after one."""
    folders = {}
    for when, steps in (("before a checkpoint", 0), ("after a checkpoint", 1)):
        folder = folders[when] = tmp_path_factory.mktemp("begun")
        shutil.copytree(WORLD / "policy", folder / "policy")
        (folder / "policy" / "chat_template.jinja").write_text(DATED)
        rows = (WORLD / "prompts" / "train.jsonl").read_text().splitlines(keepends=True)[:PROMPTS]
        (folder / "train.jsonl").write_text("".join(rows))
        step, count = Policy.training_step, iter(range(PROMPTS))

        def stops(*args: Any, step: Any = step, count: Any = count, steps: int = steps) -> Any:
            if next(count) == steps:
                raise RuntimeError("the plug was pulled")
            return step(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Policy, "training_step", stops)
            with pytest.raises(RuntimeError, match="the plug was pulled"):
                fit(folder, *arguments(folder))
        assert RunFolder(folder / "runs" / "small").checkpoint.exists() is (steps > 0)
    return folders


@pytest.fixture(params=["before a checkpoint", "after a checkpoint"])
def folder(request: pytest.FixtureRequest, begun: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of each, to change and go on with."""
    return shutil.copytree(begun[request.param], tmp_path / "run")


def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moved(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr(transformers.utils.chat_template_utils, "datetime", Moved)


def edit_rows(path: Path, change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> None:
    rows = [change(number, json.loads(line)) for number, line in enumerate(path.read_text().splitlines())]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def edit_weights(policy: Path) -> None:
    """One weight, by its last bit."""
    tensors = load_file(policy / "model.safetensors")
    name = sorted(tensors)[-1]
    tensors[name].view(-1).view(torch.int32)[5] += 1
    save_file(tensors, policy / "model.safetensors", metadata={"format": "pt"})


def swap_tokens(policy: Path) -> None:
    path = policy / "tokenizer.json"
    backend = json.loads(path.read_text())
    vocabulary = backend["model"]["vocab"]
    vocabulary["1"], vocabulary["2"] = vocabulary["2"], vocabulary["1"]
    path.write_text(json.dumps(backend))


def split_otherwise(policy: Path) -> None:
    path = policy / "tokenizer.json"
    backend = json.loads(path.read_text())
    backend["normalizer"] = {"type": "Lowercase"}
    path.write_text(json.dumps(backend))


@pytest.mark.parametrize("what", ["another day", "another template"])
def test_prompts_stay_as_they_were_answered(
    fit: Fit, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    stored = [
        row for chunk in range(3) for row in RolloutStore(RunFolder(folder / "runs" / "small").rollouts(0)).read(chunk)
    ]
    if what == "another day":
        tomorrow(monkeypatch)
    else:
        (folder / "policy" / "chat_template.jinja").write_text("7 " + DATED)
    read = []
    step = Policy.training_step
    monkeypatch.setattr(
        Policy, "training_step", lambda self, batch, row: (read.append(batch), step(self, batch, row))[1]
    )
    with caplog.at_level(logging.WARNING):
        run = fit(folder, *arguments(folder), "--resume")
    with run.folder.metrics.open(newline="") as file:
        margins = [float(row["train/margin"]) for row in csv.DictReader(file) if row["train/margin"]]
    assert margins
    assert max(map(abs, margins)) < 1e-5
    texts = {row["prompt_id"]: (row["text"], row["prompt_tokens"]) for row in stored}
    for batch in read:
        for prompt, ids in zip(batch.prompts.prompts, batch.prompts.ids(), strict=True):
            assert (prompt.text, ids) == texts[prompt.id]
            assert prompt.text != next(one.text for one in run.datamodule.prompts["train"] if one.id == prompt.id)
    told = [record.getMessage() for record in caplog.records]
    assert sum("12 of 12 prompts would read otherwise now" in message for message in told) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: edit_weights(folder / "policy"), "was made with other weights than those of"),
        (lambda folder: swap_tokens(folder / "policy"), "was made with another tokenizer than that of"),
        (lambda folder: split_otherwise(folder / "policy"), "was made with another tokenizer than that of"),
        (
            lambda folder: edit_rows(folder / "train.jsonl", lambda _, row: row | {"prompt": "1" + row["prompt"]}),
            "holds other prompts",
        ),
        (
            lambda folder: edit_rows(folder / "train.jsonl", lambda _, row: row | {"category": "other"}),
            "holds other prompts",
        ),
        (lambda folder: edit_rows(folder / "train.jsonl", lambda _, row: row | {"answer": "0"}), "holds other prompts"),
    ],
    ids=["weights", "vocabulary", "normaliser", "prompts", "categories", "answers"],
)
def test_what_makes_it_another_run_is_refused(
    fit: Fit, folder: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None], sentence: str
) -> None:
    change(folder)
    run = RunFolder(folder / "runs" / "small")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.suffix in {".ckpt", ".parquet"}}
    with pytest.raises(SystemExit) as end:
        fit(folder, *arguments(folder), "--resume")
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_rows_that_come_later_are_told_of(
    fit: Fit, begun: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A column that a reward function may read, and the test prompts."""
    folder = shutil.copytree(begun["after a checkpoint"], tmp_path / "run")
    edit_rows(folder / "train.jsonl", lambda number, row: row | {"note": number})
    fit(folder, *arguments(folder), "--resume", evaluated=3)
    (told,) = [record.getMessage() for record in caplog.records if "data have changed" in record.getMessage()]
    assert "rows of train and validation and test are others" in told


def test_a_checkpoint_of_another_base_is_not_measured(
    fit: Fit,
    fit_command: Callable[..., list[str]],
    begun: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:

    folder = shutil.copytree(begun["after a checkpoint"], tmp_path / "run")
    checkpoint = f"--ckpt_path={folder / 'runs' / 'small' / 'checkpoints' / 'last.ckpt'}"
    command = [word for word in fit_command(folder, *arguments(folder)) if "checkpoint_every" not in word]
    for subcommand in ("test", "validate", "predict"):
        edit_weights(folder / "policy")
        with pytest.raises(SystemExit) as end:
            main([subcommand, *command[1:], checkpoint])
        assert end.value.code == 2
        assert "The checkpoint was made with other weights" in capsys.readouterr().err


def test_another_run_goes_on_after_an_iteration_that_was_cut_short(
    tmp_path: Path, fit: Callable[..., LaserCLI]
) -> None:
    """The rest of the iteration is nobody's: its policy is gone, and so are its rollouts."""
    tiny = [
        "--data.prompts_per_iteration=8",
        "--data.batch_size=2",
        "--data.rollouts.n=2",
        "--trainer.limit_val_batches=0",
    ]
    tiny += ["--trainer.limit_train_batches=0.5", "--trainer.limit_test_batches=0"]
    ended = fit(tmp_path, *tiny).folder.checkpoint
    run = fit(tmp_path, *tiny, f"--ckpt_path={ended}", "--trainer.max_epochs=2", "--name=next")
    decided = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    assert [line["iteration"] for line in decided] == [1, 1]
    assert [path.name for path in (run.folder.path / "rollouts").iterdir()] == ["iteration-001"]


@pytest.mark.parametrize(
    ("served", "limit", "processed", "expected"),
    [(2, 4, 0, 2), (2, 2, 0, 4), (3, 4, 1, 4), (4, 4, 1, 4)],
    ids=["within", "at its limit", "at max_steps", "whole"],
)
def test_an_iteration_that_ended_early_has_no_batch_left(
    served: int, limit: int, processed: int, expected: int
) -> None:
    current = SimpleNamespace(processed=processed)
    loop = SimpleNamespace(epoch_progress=SimpleNamespace(current=current))
    data = PreferenceData("unused.jsonl")
    data.trainer = SimpleNamespace(num_training_batches=limit, fit_loop=loop)  # type: ignore[assignment]
    data.loader = RolloutLoader([None] * 4, iteration=0)  # type: ignore[list-item]
    data.loader.served = served
    assert data.state_dict()["cursor"] == {"iteration": 0, "served": expected, "batches": 4}


def test_an_ended_iteration_stays_ended() -> None:
    """Lightning gives the loader the state that it had when the iteration was cut short."""
    loader = RolloutLoader.ended(4, iteration=0)
    loader.load_state_dict({"iteration": 0, "served": 2})
    assert list(loader) == []
