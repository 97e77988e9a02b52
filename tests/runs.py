"""What tests of whole runs share: the types of their fixtures, and a run's records read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from laser_pl.commands.cli import LaserCLI

Fit = Callable[..., LaserCLI]
"""The fixture ``fit``: does a small run and gives the finished command."""
ThroughDisk = Callable[[dict[str, Any]], dict[str, Any]]
"""The fixture ``through_disk``: a state as it comes back from a checkpoint."""


def decisions_of(run: LaserCLI) -> list[dict[str, Any]]:
    """The lines of its ``selection.jsonl``."""
    return [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
