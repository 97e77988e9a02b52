"""What stands in ``metrics.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

from laser_pl.run.files import ended_lines

MetricsRow = tuple[int, dict[str, float]]
"""A training step and what was logged at it."""


def read_cells(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of the file, as they were written; none if it is not there.

    A row that a process that ended did not write whole is left out.
    """
    if not path.exists():
        return [], []
    reader = csv.DictReader(one_line(line) for line in ended_lines(path))
    rows = [row for row in reader if None not in row.values() and None not in row]
    return list(reader.fieldnames or []), rows


def one_line(name: str) -> str:
    """A name without carriage returns: `csv` writes them as they are, and then cannot read them."""
    return name.replace("\r\n", "\n").replace("\r", " ")


def read_metrics(path: Path) -> list[MetricsRow]:
    """Rows of the file as ``(step, metrics)``, without what a row says nothing of."""
    rows = [
        (int(row["step"]), {name: _number(value) for name, value in row.items() if name != "step" and value})
        for row in read_cells(path)[1]
    ]
    if not all(0 <= number < 2**53 for step, row in rows for number in (step, row.get("epoch", 0))):
        raise ValueError(f"{path} counts further than any run")
    return rows


def _number(text: str) -> float:
    """As it was written: the epoch is an integer."""
    return int(text) if text.isdigit() else float(text)
