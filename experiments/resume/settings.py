"""What people set of Lightning's, each as arguments of a run; ``{folder}`` is where the run may write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

CALLBACKS = "lightning.pytorch.callbacks"
LOGGERS = "lightning.pytorch.loggers"
PLATEAU = "lightning.pytorch.cli.ReduceLROnPlateau"
ACCURACY = "validation/accuracy/sampled/average"


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        kind: What it is: trainer, callback, schedule, optimizer, logger, profiler, or several at once.
        name: Its name.
        arguments: Of the command line.
        without: How the names of the metrics begin that the clock or the machine says, which nobody compares.
        why: What the table says where resumed runs are not equal.
    """

    kind: str
    name: str
    arguments: tuple[str, ...]
    without: tuple[str, ...] = ()
    why: str = ""


def _trainer(name: str, *arguments: str, **more: Any) -> Setting:
    return Setting("trainer", name, tuple(f"--trainer.{argument}" for argument in arguments), **more)


def _one(path: str, **init_args: Any) -> str:
    return json.dumps({"class_path": path, "init_args": init_args})


def _callback(
    name: str, *also: str, path: str | None = None, without: tuple[str, ...] = (), **init_args: Any
) -> Setting:
    path = path or f"{CALLBACKS}.{name.split(',')[0].split(' ')[0]}"
    return Setting("callback", name, (f"--trainer.callbacks+={_one(path, **init_args)}", *also), without)


def _schedule(name: str, *also: str, path: str | None = None, **init_args: Any) -> Setting:
    path = path or f"torch.optim.lr_scheduler.{name.split(',')[0]}"
    return Setting("schedule", name, (f"--lr_scheduler={_one(path, **init_args)}", *also))


def _optimizer(path: str, **init_args: Any) -> Setting:
    return Setting("optimizer", path.rpartition(".")[2], (f"--optimizer={_one(path, **init_args)}",))


def _logger(name: str, *paths_and_args: tuple[str, dict[str, Any]]) -> Setting:
    loggers = json.dumps([{"class_path": f"{LOGGERS}.{path}", "init_args": args} for path, args in paths_and_args])
    return Setting("logger", name, (f"--trainer.logger={loggers}",))


_LOGS = {"save_dir": "{folder}/logs"}
_SEVERAL = [{"class_path": f"{LOGGERS}.TensorBoardLogger", "init_args": _LOGS},
            {"class_path": f"{LOGGERS}.CSVLogger", "init_args": _LOGS}]  # fmt: skip

_TWO = [
    {"class_path": f"{CALLBACKS}.ModelCheckpoint", "init_args": {"every_n_train_steps": 2, "save_top_k": -1}},
    {"class_path": f"{CALLBACKS}.ModelCheckpoint", "init_args": {"every_n_epochs": 1, "save_last": True}},
]

SETTINGS = [
    _trainer("as it is"),
    _trainer("accumulate_grad_batches 2", "accumulate_grad_batches=2"),
    _trainer("accumulate_grad_batches 3, which does not divide 4", "accumulate_grad_batches=3"),
    _trainer("gradient_clip_val", "gradient_clip_val=0.001"),
    _trainer("gradient_clip_algorithm value", "gradient_clip_val=0.0001", "gradient_clip_algorithm=value"),
    _trainer("val_check_interval 2", "val_check_interval=2"),
    _trainer("val_check_interval 0.5", "val_check_interval=0.5"),
    _trainer("val_check_interval 3 over iterations", "val_check_interval=3", "check_val_every_n_epoch=null"),
    _trainer("check_val_every_n_epoch 2", "check_val_every_n_epoch=2"),
    _trainer("limit_train_batches 3", "limit_train_batches=3"),
    _trainer("limit_train_batches 0.75", "limit_train_batches=0.75"),
    _trainer("limit_val_batches 0", "limit_val_batches=0"),
    _trainer("limit_test_batches 0", "limit_test_batches=0"),
    _trainer("max_steps 7", "max_steps=7"),
    _trainer("max_steps 8, max_epochs -1", "max_steps=8", "max_epochs=-1"),
    _trainer("min_epochs, min_steps", "min_epochs=2", "min_steps=3"),
    _trainer("max_time", "max_time=00:01:00:00"),
    _trainer("log_every_n_steps 3", "log_every_n_steps=3"),
    _trainer("num_sanity_val_steps 1", "num_sanity_val_steps=1"),
    _trainer("overfit_batches 2", "overfit_batches=2"),
    _trainer("precision bf16-mixed", "precision=bf16-mixed"),
    _trainer("precision 16-true", "precision=16-true"),
    _trainer("detect_anomaly", "detect_anomaly=true"),
    _trainer("deterministic", "deterministic=true"),
    _trainer("inference_mode false", "inference_mode=false"),
    _trainer("enable_model_summary", "enable_model_summary=true"),
    _trainer("enable_checkpointing false", "enable_checkpointing=false"),
    _trainer("reload_dataloaders_every_n_epochs 0", "reload_dataloaders_every_n_epochs=0"),
    _trainer("barebones", "barebones=true"),
    _trainer("fast_dev_run", "fast_dev_run=true"),
    _trainer("default_root_dir", "default_root_dir={folder}/elsewhere"),
    _trainer("use_distributed_sampler", "use_distributed_sampler=true"),
    _trainer("sync_batchnorm", "sync_batchnorm=true"),
    _trainer("benchmark", "benchmark=true"),
    _trainer("enable_autolog_hparams false", "enable_autolog_hparams=false"),
    _trainer("val_check_interval by the clock", "val_check_interval=00:00:01:00"),
    _trainer("gradient_clip_algorithm alone", "gradient_clip_algorithm=value"),
    _trainer("strategy ddp on one device", "strategy=ddp", "devices=1"),
    _trainer("plugins AsyncCheckpointIO", "plugins+=lightning.pytorch.plugins.io.AsyncCheckpointIO"),
    _callback("EarlyStopping", monitor=ACCURACY, mode="max", patience=1),
    _callback("EarlyStopping at an iteration's end", monitor="train/loss", mode="min", patience=1,
              check_on_train_epoch_end=True),
    _callback("EarlyStopping, every 2 batches", "--trainer.val_check_interval=2", monitor=ACCURACY, mode="max",
              patience=2),
    _callback("EarlyStopping, validated every second iteration", "--trainer.check_val_every_n_epoch=2",
              "--trainer.max_epochs=4", monitor=ACCURACY, mode="max", patience=3, check_on_train_epoch_end=True),
    _callback("ModelCheckpoint by a metric", dirpath="{folder}/best", monitor=ACCURACY, mode="max", save_last=True),
    _callback("ModelCheckpoint every 3 steps", dirpath="{folder}/best", every_n_train_steps=3, save_top_k=-1),
    Setting("callback", "two ModelCheckpoints without a folder", (f"--trainer.callbacks={json.dumps(_TWO)}",)),
    _callback("OnExceptionCheckpoint", dirpath="{folder}/best"),
    _callback("GradientAccumulationScheduler", scheduling={"0": 1, "1": 2}),
    _callback("StochasticWeightAveraging", swa_lrs=1e-3, swa_epoch_start=1),
    _callback("EMAWeightAveraging", decay=0.5),
    _callback("LearningRateMonitor", "--lr_scheduler=torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size=3"),
    _callback("LearningRateMonitor by iteration", "--lr_scheduler=torch.optim.lr_scheduler.StepLR",
              "--lr_scheduler.step_size=3", logging_interval="epoch"),
    _callback("LearningRateMonitor, nothing logged", "--trainer.logger=false"),
    _callback("DeviceStatsMonitor", without=("DeviceStatsMonitor",)),
    _callback("Timer", duration="00:01:00:00"),
    _callback("ModelSummary", max_depth=2),
    _callback("RichModelSummary"),
    _callback("TQDMProgressBar", "--trainer.enable_progress_bar=true"),
    _callback("RichProgressBar", "--trainer.enable_progress_bar=true"),
    _callback("BackboneFinetuning"),
    _callback("ModelPruning", pruning_fn="l1_unstructured", amount=0.5),
    _callback("BatchSizeFinder"),
    _callback("LearningRateFinder"),
    _callback("one that clips and accumulates from an iteration on", path="resume_parts.ClipsLater"),
    _callback("one that sets the rate of each iteration", path="resume_parts.LowersRate"),
    _callback("one that acts by its own count of iterations", path="resume_parts.CountsStarts"),
    _callback("one that logs means, sums and extremes of iterations", path="resume_parts.LogsMeans"),
    _callback("one that stops training within an iteration", path="resume_parts.StopsItself"),
    _schedule("StepLR", step_size=5),
    _schedule("MultiStepLR", milestones=[3, 7]),
    _schedule("ExponentialLR", gamma=0.9),
    _schedule("LinearLR", total_iters=6),
    _schedule("ConstantLR", total_iters=6),
    _schedule("PolynomialLR", total_iters=12),
    _schedule("CosineAnnealingLR", T_max=12),
    _schedule("CosineAnnealingWarmRestarts", T_0=5),
    _schedule("CyclicLR", base_lr=1e-4, max_lr=1e-3, step_size_up=3),
    _schedule("OneCycleLR", max_lr=1e-3, total_steps=12),
    _schedule("OneCycleLR, too short", max_lr=1e-3, total_steps=11),
    _schedule("ReduceLROnPlateau", path=PLATEAU, monitor=ACCURACY, patience=0, mode="max"),
    _schedule("ReduceLROnPlateau, every 2 batches", "--trainer.val_check_interval=2", path=PLATEAU, monitor=ACCURACY,
              patience=0, mode="max"),
    _schedule("ReduceLROnPlateau, validated every second iteration", "--trainer.check_val_every_n_epoch=2",
              "--trainer.max_epochs=4", path=PLATEAU, monitor="train/loss", patience=0),
    _schedule("ReduceLROnPlateau of a metric that there is none of", path=PLATEAU, monitor="val_loss", patience=0),
    _optimizer("torch.optim.SGD", lr=1e-2, momentum=0.9),
    _optimizer("torch.optim.Adam", lr=1e-3, amsgrad=True),
    _optimizer("torch.optim.RMSprop", lr=1e-3),
    _optimizer("torch.optim.Adagrad", lr=1e-3),
    _optimizer("torch.optim.NAdam", lr=1e-3),
    _optimizer("torch.optim.LBFGS", lr=1e-3),
    _optimizer("bitsandbytes.optim.AdamW8bit", lr=1e-3),
    _logger("none beside metrics.csv"),
    _logger("TensorBoardLogger", ("TensorBoardLogger", _LOGS)),
    _logger("CSVLogger", ("CSVLogger", _LOGS)),
    _logger("WandbLogger, offline", ("WandbLogger", {**_LOGS, "offline": True})),
    _logger("TensorBoardLogger and CSVLogger", ("TensorBoardLogger", _LOGS), ("CSVLogger", _LOGS)),
    _logger("CSVLogger in the run's own folder", ("CSVLogger", {"save_dir": "{folder}/runs", "name": "run",
                                                                "version": ""})),
    # Where mlflow is installed; its newer versions want MLFLOW_ALLOW_FILE_STORE=true for files.
    _logger("MLFlowLogger, in files", ("MLFlowLogger", _LOGS)),
    Setting("logger", "false", ("--trainer.logger=false",)),
    Setting("profiler", "simple", ("--trainer.profiler=simple",)),
    Setting("profiler", "advanced", ("--trainer.profiler=advanced",)),
    Setting("profiler", "pytorch", ("--trainer.profiler=pytorch",)),
    Setting(
        "several",
        "plateau, early stopping, accumulation, val_check_interval and two loggers",
        (
            f"--lr_scheduler={_one(PLATEAU, monitor=ACCURACY, patience=0, mode='max')}",
            f"--trainer.callbacks+={_one(f'{CALLBACKS}.EarlyStopping', monitor=ACCURACY, mode='max', patience=4)}",
            "--trainer.accumulate_grad_batches=2",
            "--trainer.val_check_interval=2",
            f"--trainer.logger={json.dumps(_SEVERAL)}",
        ),
    ),
]  # fmt: skip
