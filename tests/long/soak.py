"""A long run: do memory, step time and files stay what they are?

The quickstart for --steps training steps in iterations of 40, with --keep_iterations 1. At the end of every iteration
the process's resident memory, the time of its steps and the bytes in the run's folder are noted. Slopes are least
squares over the second half of the iterations; in the first caches fill, and the bandit learns each arm's contexts.

Run:  OMP_NUM_THREADS=1 python tests/long/soak.py --steps 2000
Cost: 1 CPU core, about 4 minutes, 1 GB. It ends with code 1 if memory grows by 1 % or more in 1,000 steps, or if
checkpoints or rollouts grow.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"))

import numpy as np
from results import command_of, parser_of, write_section

from laser_pl.callbacks.run_record import RunRecord
from laser_pl.commands.cli import main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STEPS = 40
"""In one iteration."""


@dataclass(frozen=True)
class Mark:
    """What was measured at an iteration's end.

    Attributes:
        step: Training steps so far.
        memory: Resident bytes of the process.
        seconds: Of its training steps.
        bytes: In the run's folder, by kind of file.
    """

    step: int
    memory: int
    seconds: float
    bytes: dict[str, int]


class Marks:
    """Takes a mark when an iteration's checkpoint is written."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self._seconds = 0.0

    def take(self, record: RunRecord) -> None:
        """Note what is now."""
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        path, before = record.folder.path, self._seconds
        self._seconds = record.seconds["steps"]
        found = {
            "checkpoints": size_of(path / "checkpoints"),
            "rollouts": size_of(path / "rollouts"),
            "records": record.folder.selection.stat().st_size + record.folder.metrics.stat().st_size,
        }
        self.marks.append(Mark(record.steps, pages * resource.getpagesize(), self._seconds - before, found))


def size_of(folder: Path) -> int:
    """Bytes of the files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(steps: int, runs_dir: str, more: Sequence[str] = ()) -> list[Mark]:
    """Fit and take marks.

    Args:
        steps: How many.
        runs_dir: Where the run's folder lies.
        more: Further arguments.
    """
    marks = Marks()
    save = RunRecord.on_train_epoch_end

    def save_and_mark(self: RunRecord, *args: object) -> None:
        save(self, *args)  # type: ignore[arg-type]
        if self.folder.checkpoint.exists():  # of the iteration before
            marks.take(self)

    RunRecord.on_train_epoch_end = save_and_mark  # type: ignore[method-assign,assignment]
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            main(
                [
                    "fit", "--config", "experiments/quickstart.yaml", "--name", "soak", f"--runs_dir={runs_dir}",
                    f"--trainer.max_epochs={steps // STEPS}", f"--data.prompts_per_iteration={16 * STEPS}",
                    "--keep_iterations=1", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", *more,
                ]
            )  # fmt: skip
    finally:
        RunRecord.on_train_epoch_end = save  # type: ignore[method-assign]
    return marks.marks


def slope(values: Sequence[float], steps: Sequence[int]) -> float:
    """Growth in 1,000 steps as a share of the mean, by least squares.

    >>> round(slope([1.0, 1.1, 1.2], [0, 500, 1000]), 3)
    0.182
    """
    return float(np.polyfit(np.asarray(steps) / 1000, values, 1)[0] / np.mean(values))


def report(marks: list[Mark]) -> tuple[list[str], bool]:
    """The table, and whether nothing grows that should not."""
    settled = marks[len(marks) // 2 :]
    steps = [mark.step for mark in settled]
    series = {
        "resident memory, MiB": [mark.memory / 2**20 for mark in settled],
        "milliseconds a step": [1000 * mark.seconds / STEPS for mark in settled[:-1]],
        "checkpoints, KiB": [mark.bytes["checkpoints"] / 2**10 for mark in settled],
        "rollouts, KiB": [mark.bytes["rollouts"] / 2**10 for mark in settled],
    }
    lines = [f"| from step {steps[0]} to {steps[-1]} | first | last | growth in 1,000 steps |", "|---|---|---|---|"]
    growth = {}
    for name, values in series.items():
        growth[name] = slope(values, steps[: len(values)])
        lines.append(f"| {name} | {values[0]:.1f} | {values[-1]:.1f} | {growth[name]:+.2%} |")
    written = settled[-1].bytes["records"] / settled[-1].step
    lines.append(f"| records, bytes a step | | {written:.0f} | |")
    bounded = [name for name in series if name != "milliseconds a step"]
    return lines, all(growth[name] < 0.01 for name in bounded)


if __name__ == "__main__":
    os.chdir(ROOT)
    parser = parser_of(__doc__, HERE / "RESULTS.md")
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        lines, holds = report(run(options.steps, scratch))
    text = [
        "## A long run", "", *lines, "",
        f"`{command_of('soak', None, 'tests/long')}`, Python"
        f" {platform.python_version()}, torch {version('torch')}, lightning {version('lightning')}.",
    ]  # fmt: skip
    write_section(options.results, "soak", "\n".join(text))
    print("\n".join(lines))
    raise SystemExit(0 if holds else 1)
