"""The script that measures what processes hold that share weights out."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from tests.forked import forked

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "scale" / "memory.py"


def measured(folder: Path) -> None:
    """In a process of its own: it forks others."""
    small = ["--processes", "1", "2", "--width", "64", "--layers", "2", "--vocabulary", "1000"]
    rows = runpy.run_path(str(SCRIPT))["main"](small)
    (folder / "rows.json").write_text(json.dumps(rows))


def test_two_processes_hold_half_of_what_one_does(tmp_path: Path) -> None:
    process = forked(measured, tmp_path)
    process.join()
    assert process.exitcode == 0
    (alone, whole, _), (processes, piece, _) = json.loads((tmp_path / "rows.json").read_text())
    assert (alone, processes) == (1, 2)
    numbers = 2 * 1000 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 256 + 2 * 64) + 64  # embeddings, head, layers and last norm
    trained = 2 * 2 * 2 * 16 * 64  # A and B of two targets in two layers, with a gradient and two of AdamW's for each
    steps = 2 * 2 * 2  # AdamW's count for each, which is no piece
    assert whole == 4 * (numbers + 4 * trained + steps)
    assert piece == 4 * ((numbers + 4 * trained) // 2 + steps)
