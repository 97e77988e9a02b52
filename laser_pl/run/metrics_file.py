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
from laser_pl.run.metrics_csv import one_line, read_cells


class MetricsFile(Logger):
    """``metrics.csv``: a row for what is logged at once, a column for each name.

    Lightning's ``CSVLogger`` begins by deleting the file that is there, and rewrites it in place when a name is new: a
    run that is killed just then has lost what it had logged. This one appends, and rewrites whole or not at all.

    Args:
        path: The file.

    Attributes:
        count: Rows in it, of this run and of what it goes on from.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.count = 0
        self._columns: list[str] = []
        self._last = 0  # step that was written

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
        """Write a row: of numbers, also as tensors and NumPy has them; without a step, of the last one."""
        row = {
            "step": str(self._last if step is None else step),
            **{one_line(name): _as_text(v) for name, v in metrics.items()},
        }
        self._last = int(row["step"])
        if self._columns and row.keys() <= set(self._columns):
            append_text(self.path, _text([], [row], self._columns))
            self.count += 1
        else:
            columns, rows = read_cells(self.path)
            self._write(columns, [*rows, row])

    @rank_zero_only
    def keep_first(self, count: int) -> None:
        """Drop all rows but the first, since the others will be logged again."""
        columns, rows = read_cells(self.path)
        self._write(columns, rows[:count])

    def _write(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
        self._columns = [name for name in names if any(row.get(name) for row in rows)]
        self.count = len(rows)
        head = dict(zip(self._columns, self._columns, strict=True))
        write_whole(self.path, _text([head], rows, self._columns), self.path.parent)


def _as_text(value: Any) -> str:
    """A number as it is read back; what is none has no place in the file."""
    try:
        return str(value if type(value) in (int, float) else float(value))
    except (TypeError, ValueError, RuntimeError):
        return ""


def _text(head: list[dict[str, str]], rows: list[dict[str, str]], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n", extrasaction="ignore").writerows([*head, *rows])
    return text.getvalue()


def metrics_files(trainer: Trainer) -> list[MetricsFile]:
    """The trainer's loggers of this kind: one, or none if nothing is logged."""
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]


def last_logged(trainer: Trainer) -> list[str]:
    """Names of what was logged in the loop under way, in this step or before."""
    return [result.meta.name for result in (trainer._results or {}).values()]


def forget_last(trainer: Trainer, names: Collection[str]) -> None:
    """Leave out of a step's row what this step did not log, where Lightning repeats what the step before did."""
    for result in (trainer._results or {}).values():
        if result.meta.name in names:
            result.reset()
