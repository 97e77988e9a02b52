"""Seconds until a run on the quickstart's world is as accurate as another way to choose ever gets.

Ours is the preset ``default`` with one reward model per prompt. The others are the mean of all five reward models as
one arm, and the five in turn, on the same prompts, seeds and number of iterations. Everybody is validated after each
iteration (accuracy of sampled answers). The clock counts rollouts, scoring and training steps up to the end of that
iteration; validation, test and imports are left out.

The target of a comparison is the best validation accuracy that the other one ever reaches, so it is the other one's
own choice of when to stop. Each side's time is that at the end of the first iteration in which it has reached the
target; the ratio is the other's over ours, and "never" where ours does not get there. Validation is noisy, and the best
of several noisy numbers is a lucky one: that makes targets higher, for ours to reach. The row "mean of seeds" does the
same with accuracies and times averaged over seeds, which takes most of the luck out.

Run:  OMP_NUM_THREADS=1 python experiments/benchmarks/equal_accuracy.py
Cost: 1 CPU core, about 6 minutes, 1 GB.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results import command_of, parser_of, tell
from timing import conditions

from laser_pl.callbacks.run_record import RunRecord
from laser_pl.commands.cli import main as laser_pl

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORLD = ROOT / "experiments" / "quickstart.yaml"
ACCURACY = "validation/accuracy/sampled/average"
Curve = list[tuple[float, float]]
"""Seconds so far and accuracy, at the end of each iteration."""


def arguments_of(strategy: str) -> list[str]:
    """What makes the quickstart choose this way."""
    if strategy == "ours":
        return ["--config", "experiments/presets/default.yaml"]
    if strategy == "in turn":
        return ["--selection.bandit=laser_pl.bandits.RoundRobin"]
    members = yaml.safe_load(WORLD.read_text())["selection"]["reward_models"]
    mean = {"class_path": "laser_pl.rewards.MeanEnsemble", "init_args": {"reward_models": members}}
    return [f"--selection.reward_models={json.dumps({'mean': mean})}", "--selection.bandit=laser_pl.bandits.Fixed"]


def fit(strategy: str, seed: int, iterations: int, also: list[str]) -> Curve:
    """One run."""
    seconds: list[float] = []
    end = RunRecord.on_validation_end

    def timed(record: RunRecord, trainer: Any, module: Any) -> None:
        end(record, trainer, module)
        if not trainer.sanity_checking:
            took = trainer.datamodule.rollout_seconds + record.selector.pool.seconds + record.seconds["steps"]
            seconds.append(took)

    with tempfile.TemporaryDirectory() as folder:
        words = ["fit", "--config", str(WORLD), "--config", "experiments/quickstart/per_prompt.yaml",
                 *arguments_of(strategy), f"--seed_everything={seed}", f"--trainer.max_epochs={iterations}",
                 f"--runs_dir={folder}", *also]  # fmt: skip
        patched = mock.patch.object(RunRecord, "on_validation_end", timed)
        with patched, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            run = laser_pl(words)
        with run.folder.metrics.open(newline="") as file:
            accuracy = [float(row[ACCURACY]) for row in csv.DictReader(file) if row.get(ACCURACY)]
    return list(zip(seconds, accuracy, strict=True))


def reached(curve: Curve, target: float) -> float | None:
    """Seconds until it is as accurate as that."""
    return next((seconds for seconds, accuracy in curve if accuracy >= target), None)


def mean_curve(curves: list[Curve]) -> Curve:
    """Accuracies and times averaged over seeds, iteration by iteration."""
    return [
        (statistics.mean(seconds for seconds, _ in points), statistics.mean(accuracy for _, accuracy in points))
        for points in zip(*curves, strict=True)
    ]


def row(other: str, seed: str, theirs: Curve, ours: Curve) -> str:
    """One line of the table."""
    target = max(accuracy for _, accuracy in theirs)
    slow, fast = reached(theirs, target), reached(ours, target)
    assert slow is not None
    mine, ratio = ("never", "never") if fast is None else (f"{fast:.1f} s", f"{slow / fast:.1f}x")
    best = max(accuracy for _, accuracy in ours)
    return f"| {other} | {seed} | {target:.3f} | {slow:.1f} s | {mine} | {ratio} | {best:.3f} |"


def run(arguments: argparse.Namespace, command: str) -> str:
    """All fits; returns the section."""
    curves: dict[str, list[Curve]] = {"ours": [], "mean of scores": [], "in turn": []}
    for seed in range(arguments.repeats):
        for strategy, own in curves.items():
            own.append(fit(strategy, seed, arguments.iterations, arguments.also))
            print(strategy, seed, [(round(s, 1), round(a, 3)) for s, a in own[-1]], flush=True)
    lines = []
    for other in ("mean of scores", "in turn"):
        pairs = list(zip(curves[other], curves["ours"], strict=True))
        lines += [row(other, str(seed), theirs, ours) for seed, (theirs, ours) in enumerate(pairs)]
        lines.append(row(other, "mean of seeds", mean_curve(curves[other]), mean_curve(curves["ours"])))
    return "\n".join(
        [
            "## Wall clock to equal accuracy",
            "",
            f"Written by `{command}`, {conditions('lightning')}. Quickstart's world, one reward model per prompt,"
            f" {arguments.iterations} iterations, {arguments.repeats} seed(s) taken alternately. Target: the other's"
            " best validation accuracy; the seconds are rollouts, scoring and steps until it is first reached.",
            "",
            "| other | seed | target | other | ours | ratio | ours, best |",
            "|---|---|---|---|---|---|---|",
            *lines,
        ]
    )


def main(args: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="seeds")
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--also", nargs="+", default=[], metavar="NAME=VALUE", help="further settings of all fits")
    arguments = parser.parse_args(args)
    command = command_of("equal_accuracy", args)
    arguments.also = [f"--{setting}" for setting in arguments.also]
    here = Path.cwd()
    arguments.results = arguments.results.resolve()
    os.chdir(ROOT)  # paths in the quickstart's configuration start there
    try:
        text = run(arguments, command)
    finally:
        os.chdir(here)
    tell(arguments.results, "equal_accuracy", text)


if __name__ == "__main__":
    main()
