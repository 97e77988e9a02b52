"""The logger of a run's own metrics."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from laser_pl.run.files import append_text, write_whole
from laser_pl.run.metrics_csv import MetricsRow, one_line, read_cells


class MetricsFile(Logger):
    """``metrics.csv``: a row for what is logged at once, a column for each name.

    Lightning's ``CSVLogger`` begins by deleting the file that is there, and rewrites it in place when a name is new: a
    run that is killed just then has lost what it had logged. This one appends, and rewrites whole or not at all.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []

    @property
    def name(self) -> None:
        """It has none; the run has."""
        return None

    @property
    def version(self) -> None:
        """It has none."""
        return None

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return str(self.path.parent)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: they stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a row."""
        row = {"step": str(step), **{one_line(name): str(value) for name, value in metrics.items()}}
        if self._columns and row.keys() <= set(self._columns):
            append_text(self.path, _text([], [row], self._columns))
        else:
            columns, rows = read_cells(self.path)
            self._write(columns, [*rows, row])

    @rank_zero_only
    def keep_before(self, step: int, last: MetricsRow | None = None) -> None:
        """Drop what was logged from a step on, since it will be again.

        Args:
            step: The checkpoint's.
            last: What was about to be logged when the checkpoint was saved.
        """
        columns, rows = read_cells(self.path)
        kept = [row for row in rows if int(row["step"]) < step]
        if last is not None:
            row = {"step": str(last[0]), **{one_line(name): str(value) for name, value in last[1].items()}}
            if all(row != {name: value for name, value in other.items() if value} for other in kept):
                kept.append(row)
        self._write(columns, kept)

    def _write(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
        self._columns = [name for name in names if any(row.get(name) for row in rows)]
        head = dict(zip(self._columns, self._columns, strict=True))
        write_whole(self.path, _text([head], rows, self._columns), self.path.parent)


def _text(head: list[dict[str, str]], rows: list[dict[str, str]], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n", extrasaction="ignore").writerows([*head, *rows])
    return text.getvalue()


def keep_metrics_before(trainer: Trainer, step: int, last: MetricsRow | None = None) -> None:
    """The same for a trainer's loggers, if its metrics are logged at all."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            logger.keep_before(step, last)


def forget_last(trainer: Trainer, names: Collection[str]) -> None:
    """Leave out of a step's row what this step did not log, where Lightning repeats what the step before did."""
    for result in (trainer._results or {}).values():
        if result.meta.name in names:
            result.reset()


def row_to_come(trainer: Trainer) -> MetricsRow | None:
    """What Lightning logs of a training batch once the hooks at its end are over, if it logs anything.

    A checkpoint that is saved in such a hook has to hold it, since the run may be interrupted in between.
    """
    connector, results = trainer._logger_connector, trainer._results
    if results is None or not connector.should_update_logs:
        return None
    metrics = {name: float(value) for name, value in results.metrics(on_step=True)["log"].items()}
    return trainer.fit_loop.epoch_loop._batches_that_stepped, {**metrics, "epoch": trainer.current_epoch}
