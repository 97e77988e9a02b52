"""What stands in ``metrics.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

MetricsRow = tuple[int, dict[str, float]]
"""A training step and what was logged at it."""


def read_cells(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of the file, as they were written; none if it is not there.

    A row that a process that ended did not write whole is left out.
    """
    if not path.exists():
        return [], []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(line for line in file if line.endswith("\n"))
        rows = [row for row in reader if None not in row.values()]
        return list(reader.fieldnames or []), rows


def read_metrics(path: Path) -> list[MetricsRow]:
    """Rows of the file as ``(step, metrics)``, without what a row says nothing of."""
    return [
        (int(row["step"]), {name: _number(value) for name, value in row.items() if name != "step" and value})
        for row in read_cells(path)[1]
    ]


def _number(text: str) -> float:
    """As it was written: the epoch is an integer."""
    return int(text) if text.isdigit() else float(text)
