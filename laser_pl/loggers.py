"""Small things around Lightning's loggers."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from laser_pl.run_folder import write_whole

MetricsRow = tuple[int, dict[str, float]]
"""A training step and what was logged at it."""


def go_offline_without_key() -> None:
    """Let W&B write to disk where nobody is logged in, instead of asking; ``WANDB_MODE`` overrules."""
    if "WANDB_API_KEY" not in os.environ and not _has_netrc():
        os.environ.setdefault("WANDB_MODE", "offline")


def _has_netrc() -> bool:
    return any(os.path.exists(os.path.expanduser(path)) for path in ("~/.netrc", "~/_netrc"))


@contextmanager
def keeping_metrics(path: Path) -> Iterator[list[MetricsRow]]:
    """The rows of a run that goes on, kept beside the file until its logger, which begins by deleting it, has them.

    Whoever fails before that finds the file as it was; a process that is killed leaves the copy, which the next one
    takes. Of several processes the first one does it.

    Args:
        path: The CSV logger's file.
    """
    if rank_zero_only.rank > 0:  # type: ignore[attr-defined]
        yield []
        return
    kept = _kept(path)
    rows = read_metrics(kept if kept.exists() else path)
    if rows and not kept.exists():
        with path.open(encoding="utf-8", newline="") as file:
            write_whole(kept, file.read())
    try:
        yield rows
    finally:
        if kept.exists():
            kept.replace(path)


def _kept(path: Path) -> Path:
    return path.with_name(f"{path.name}.kept")


def read_metrics(path: Path) -> list[MetricsRow]:
    """Rows of a CSV logger's file as ``(step, metrics)``; none if it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (int(row["step"]), {name: _number(value) for name, value in row.items() if name != "step" and value})
        for row in rows
    ]


def _number(text: str) -> float:
    """As it was written: the epoch is an integer."""
    return int(text) if text.isdigit() else float(text)


def continue_metrics(trainer: Trainer, rows: list[MetricsRow]) -> None:
    """Give a resumed run's CSV logger the rows up to its checkpoint, since Lightning's begins by deleting the file.

    Args:
        trainer: Whose loggers go on, at the checkpoint's step.
        rows: What the interrupted run had written.
    """
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger) and trainer.is_global_zero:
            for step, metrics in rows:
                if step < trainer.global_step:
                    logger.log_metrics({**metrics}, step)
            logger.save()
            _kept(Path(logger.experiment.metrics_file_path)).unlink(missing_ok=True)
