"""What a CSV logger wrote."""

from __future__ import annotations

import csv
from pathlib import Path

MetricsRow = tuple[int, dict[str, float]]
"""A training step and what was logged at it."""


def read_metrics(path: Path) -> list[MetricsRow]:
    """Rows of a CSV logger's file as ``(step, metrics)``; none if it is not there.

    A row that a process that ended did not write whole is left out.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        whole = (line for line in file if line.endswith("\n"))
        rows = [row for row in csv.DictReader(whole) if None not in row.values()]
    return [
        (int(row["step"]), {name: _number(value) for name, value in row.items() if name != "step" and value})
        for row in rows
    ]


def _number(text: str) -> float:
    """As it was written: the epoch is an integer."""
    return int(text) if text.isdigit() else float(text)
