"""Lightning's loggers beside the run's own CSV file."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from laser_pl.cli import LaserCLI

Fit = Callable[..., LaserCLI]


def rows_of(run: LaserCLI) -> list[dict[str, str]]:
    with run.folder.metrics.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_tensorboard_and_wandb_side_by_side(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = fit(
        tmp_path,
        "--trainer.logger+=lightning.pytorch.loggers.TensorBoardLogger",
        f"--trainer.logger.save_dir={tmp_path / 'board'}",
        "--trainer.logger+=lightning.pytorch.loggers.WandbLogger",
        f"--trainer.logger.save_dir={tmp_path / 'wandb_files'}",
        "--trainer.logger.project=laser",
    )
    wandb.finish()
    wandb.teardown()  # waits until everything is on disk
    assert [type(logger).__name__ for logger in run.trainer.loggers] == [
        "TensorBoardLogger", "WandbLogger", "MetricsFile"
    ]  # fmt: skip
    (offline,) = (tmp_path / "wandb_files" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"train/loss" in offline.read_bytes()
    (folder,) = {path.parent for path in (tmp_path / "board").rglob("events.out.tfevents.*")}
    board = EventAccumulator(str(folder)).Reload()
    logged = {event.step: event.value for event in board.Scalars("train/loss")}
    own = {int(row["step"]): float(row["train/loss"]) for row in rows_of(run) if row["train/loss"]}
    assert logged == pytest.approx(own)
    assert len(own) == 4


def test_logging_can_be_switched_off(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, "--trainer.logger=false")
    assert run.trainer.loggers == []
    assert not run.folder.metrics.exists()
    assert run.folder.summary.exists()


def test_users_callbacks_keep_the_bandit(fit: Fit, tmp_path: Path) -> None:
    """A list of callbacks replaces nothing of ours."""
    run = fit(tmp_path, '--trainer.callbacks=[{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}]')
    names = [type(callback).__name__ for callback in run.trainer.callbacks]
    assert {"LearningRateMonitor", "RewardSelection", "RunRecord", "RunCheckpoint"} <= set(names)
    assert names.count("RewardSelection") == 1
    assert names.index("RewardSelection") < names.index("RunRecord") < names.index("RunCheckpoint")
    assert len(run.folder.selection.read_text().splitlines()) == 4
    rates = [float(row["lr-AdamW"]) for row in rows_of(run) if row.get("lr-AdamW")]
    assert len(rates) >= 4
    assert set(rates) == {2e-4}
