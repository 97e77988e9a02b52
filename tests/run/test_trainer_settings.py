"""What is refused of the trainer's settings, callbacks and loggers before a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    DeviceStatsMonitor,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.profilers import Profiler

from laser_pl.commands.trainer_settings import refuse_settings
from laser_pl.errors import ConfigurationError
from laser_pl.run.folder import RunFolder
from laser_pl.run.loggers import OF_PROFILERS, outlive, refuse_own_folder
from laser_pl.run.users_files import give_checkpoints_folders

USUAL = {
    "default_root_dir": None,
    "use_distributed_sampler": False,
    "overfit_batches": 0.0,
    "val_check_interval": 0.5,
    "gradient_clip_val": 0.0,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": None,
    "callbacks": [LearningRateMonitor(), ModelSummary(max_depth=-1)],
    "logger": None,
}


def test_usual_settings_are_not_refused() -> None:
    refuse_settings(USUAL)
    refuse_settings({"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value", "val_check_interval": 3})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"default_root_dir": "x"}, r"trainer.default_root_dir does nothing.*--runs_dir"),
        ({"use_distributed_sampler": True}, "trainer.use_distributed_sampler does nothing"),
        ({"sync_batchnorm": True}, "trainer.sync_batchnorm does nothing"),
        ({"model_registry": "a/b"}, "trainer.model_registry does nothing.*hf upload"),
        ({"overfit_batches": 2}, "trainer.overfit_batches cannot repeat.*data.train"),
        ({"barebones": True}, "trainer.barebones would leave"),
        ({"enable_checkpointing": False}, "trainer.enable_checkpointing cannot be false"),
        ({"gradient_clip_algorithm": "norm"}, "does nothing without trainer.gradient_clip_val"),
        ({"gradient_clip_val": -1}, "trainer.gradient_clip_val must be >= 0, got -1"),
        ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches must be >= 1, got 0"),
        ({"check_val_every_n_epoch": 0}, "trainer.check_val_every_n_epoch must be >= 1, got 0"),
        ({"log_every_n_steps": -1}, "trainer.log_every_n_steps must be >= 0, got -1"),
        ({"val_check_interval": 0}, r"trainer.val_check_interval must be > 0, got 0.*limit_val_batches"),
        ({"val_check_interval": "00:00:01:00"}, "validation by the clock"),
        ({"callbacks": BatchSizeFinder()}, "BatchSizeFinder would train.*tokens_per_forward"),
        ({"callbacks": [LearningRateFinder()]}, "LearningRateFinder would train"),
        ({"callbacks": [BackboneFinetuning()]}, "BackboneFinetuning changes which weights"),
        ({"callbacks": [ModelSummary(max_depth=-5)]}, "max_depth of ModelSummary must be >= -1, got -5"),
        ({"callbacks": [LearningRateMonitor()], "logger": False}, "LearningRateMonitor has nowhere to log"),
        ({"callbacks": [DeviceStatsMonitor()], "logger": False}, "DeviceStatsMonitor has nowhere to log"),
    ],
)
def test_what_does_nothing_or_cannot_be_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        refuse_settings(settings)


def trainer_with(*callbacks: ModelCheckpoint) -> Trainer:
    return Trainer(callbacks=list(callbacks), accelerator="cpu", logger=False, enable_progress_bar=False)


def test_each_checkpoint_callback_has_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = ModelCheckpoint(every_n_train_steps=1), ModelCheckpoint(every_n_epochs=1)
    given = ModelCheckpoint(dirpath=tmp_path / "best", every_n_epochs=2)
    give_checkpoints_folders(trainer_with(first, given, second), RunFolder(tmp_path / "run"))
    kept = tmp_path / "run" / "checkpoints" / "kept"
    assert [first.dirpath, second.dirpath, given.dirpath] == [str(kept), f"{kept}-2", str(tmp_path / "best")]
    assert (tmp_path / "best").is_dir()


@pytest.mark.parametrize(
    ("place", "sentence"), [("run/checkpoints", "own checkpoint lies"), ("file/x", "cannot write")]
)
def test_checkpoints_cannot_lie_where_the_runs_own_does_nor_in_a_file(
    tmp_path: Path, place: str, sentence: str
) -> None:
    (tmp_path / "file").touch()
    trainer = trainer_with(ModelCheckpoint(dirpath=tmp_path / place, filename="last"))
    with pytest.raises(ConfigurationError, match=sentence):
        give_checkpoints_folders(trainer, RunFolder(tmp_path / "run"))


def test_a_csv_logger_may_not_delete_the_runs_metrics(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "own")
    refuse_own_folder([CSVLogger(tmp_path / "runs", "own")], run)  # in version_0
    with pytest.raises(ConfigurationError, match=r"CSVLogger would write to the run's own folder.*save_dir"):
        refuse_own_folder([CSVLogger(tmp_path / "runs", "own", version="")], run)
    assert not run.path.exists()


def test_a_profiler_that_fails_to_report_costs_its_report_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    class Short(Profiler):  # as torch's, of a test of few batches
        def start(self, action_name: str) -> None: ...

        def stop(self, action_name: str) -> None: ...

        def summary(self) -> str:
            raise AssertionError("nothing was measured")

    profiler = Short(filename="-")
    outlive(profiler, OF_PROFILERS)
    profiler.describe()
    profiler.describe()
    told = "Short cannot log any more, and the run goes on without: AssertionError: nothing was measured"
    assert [record.getMessage() for record in caplog.records] == [told]
