"""Lightning's loggers beside the run's own CSV file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import wandb
from lightning.pytorch.loggers import MLFlowLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from laser_pl.commands.cli import LaserCLI
from laser_pl.run.loggers import SAMPLE_COLUMNS, go_on_with_versions, sample_rows
from tests.offline_wandb import records_of
from tests.runs import Fit


def rows_of(run: LaserCLI) -> list[dict[str, str]]:
    with run.folder.metrics.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_tensorboard_and_wandb_side_by_side(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers at the same steps; W&B has the configuration, the summary and a table of samples as well."""
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
    own = {
        (name, int(row["step"])): float(value)
        for row in rows_of(run)
        for name, value in row.items()
        if value and name not in {"step", "epoch"}
    }
    arms = run.selector.arms
    decided = {f"{part}/{arm}" for part in ("selection", "bandit/mean", "bandit/bonus") for arm in arms}
    accuracy = {f"{stage}/accuracy/sampled/average" for stage in ("validation", "test")}
    expected = {"train/loss", "train/dpo", "train/nll", "train/margin", "seconds/scoring", *decided, *accuracy}
    assert expected <= {name for name, _ in own}

    (folder,) = {path.parent for path in (tmp_path / "board").rglob("events.out.tfevents.*")}
    board = EventAccumulator(str(folder)).Reload()
    tags = set(board.Tags()["scalars"]) - {"epoch", "hp_metric"}
    assert {(t, e.step): e.value for t in tags for e in board.Scalars(t)} == pytest.approx(own, rel=1e-6)

    (offline,) = (tmp_path / "wandb_files" / "wandb").glob("offline-run-*/run-*.wandb")
    records = list(records_of(offline))
    logged: dict[tuple[str, int], float] = {}
    for record in records:
        items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        step = items.get("trainer/global_step")
        logged |= {(name, step): value for name, value in items.items() if name in {one for one, _ in own}}
    assert logged == pytest.approx(own)
    config = {item.key: json.loads(item.value_json) for record in records for item in record.run.config.update}
    config |= {item.key: json.loads(item.value_json) for record in records for item in record.config.update}
    assert config["selection"]["bandit"]["init_args"] == {"alpha": 1.0}
    told = {item.key: json.loads(item.value_json) for record in records for item in record.summary.update}
    assert told["summary"]["accuracy"] == run.summary["accuracy"]
    (path,) = (offline.parent / "files").rglob("judged*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == list(SAMPLE_COLUMNS)
    assert table["data"] == list(sample_rows(map(json.loads, run.folder.judged.read_text().splitlines())))
    assert len(table["data"]) == 16 * 6


def test_bandits_numbers_are_means_over_the_batchs_prompts(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, "--selection.granularity=category")
    lines = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    assert len(lines) > 4  # several in a batch, of different sizes
    trained = [row for row in rows_of(run) if row["seconds/scoring"]]
    for step, row in enumerate(trained):
        own = [line for line in lines if line["step"] == step]
        assert float(row["seconds/scoring"]) == pytest.approx(own[0]["reward_model_seconds"])
        for part in ("mean", "bonus"):
            for arm in run.selector.arms:
                weighted = [value for line in own for value in [line[part][arm]] * len(line["prompt_ids"])]
                assert len(weighted) == 4
                assert float(row[f"bandit/{part}/{arm}"]) == pytest.approx(sum(weighted) / 4)


def test_a_sampled_prompt_becomes_a_row_for_each_response() -> None:
    line = {
        "iteration": 1, "step": 7, "category": "all", "prompt": [{"role": "user", "content": "1+1?"}], "answer": None,
        "arm": "b", "responses": ["2", "3"], "right": None, "scores": {"a": [0.0, 0.0], "b": [0.5, None]},
        "pairs": [[0, 1], [0, 1]],
    }  # fmt: skip
    chat = '[{"role": "user", "content": "1+1?"}]'
    assert list(sample_rows([line])) == [
        [1, 7, "all", chat, None, "b", "2", 0.5, 2, 0, None],
        [1, 7, "all", chat, None, "b", "3", None, 0, 2, None],
    ]


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


def test_a_run_of_mlflow_goes_on_with_the_parameters_it_began_with(tmp_path: Path) -> None:
    """MLflow lets no parameter change; the attempt would end its log."""
    logger = MLFlowLogger.__new__(MLFlowLogger)  # mlflow itself is not among what we install
    (tmp_path / "loggers.json").write_text('{"versions": ["1e404c9c9274401e81696bc8abf5955a"]}')
    go_on_with_versions([logger], tmp_path / "loggers.json")
    assert logger._run_id == "1e404c9c9274401e81696bc8abf5955a"
    assert logger.log_hyperparams({"resume": True}) is None  # type: ignore[func-returns-value]
