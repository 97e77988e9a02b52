"""What it costs on the quickstart's world that the policy that samples is an iteration older than the one trained.

Run:  python experiments/engines/staleness.py --seeds 5
Cost: about 45 s of one core per fit, two fits per seed. A fit that is in --out already is not run again.

It prints the page that ``STALENESS.md`` beside it is, or writes it where --results says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from laser_pl.report.statistics import advantage, interval, mean_and_interval
from laser_pl.run.folder import RunFolder
from laser_pl.run.metrics_csv import read_cells

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SAMPLED = "validation/accuracy/sampled/average"
Job = tuple[int, int, Path, list[str]]
"""Staleness, seed, where its run's folder lies, and further words of the command."""


def fit(job: Job) -> dict[str, Any]:
    """One fit, or what it left if it was run before: test accuracy, and validation accuracy after each iteration."""
    staleness, seed, runs_dir, also = job
    folder = RunFolder(runs_dir / f"staleness{staleness}-{seed}")
    if not folder.summary.exists():
        from laser_pl.commands.cli import main  # in the worker, which costs its imports once

        command = ["fit", "--config", "experiments/quickstart.yaml", *also, f"--data.staleness={staleness}"]
        command += [f"--seed_everything={seed}", f"--name={folder.path.name}", f"--runs_dir={runs_dir}"]
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            main(command)
    summary = json.loads(folder.summary.read_text())
    validation = [float(row[SAMPLED]) for row in read_cells(folder.metrics)[1] if row.get(SAMPLED)]
    accuracy = {moment: summary["accuracy"][moment]["average"] for moment in ("before", "after")}
    print(f"{folder.path.name}: {accuracy['before']:.3f} -> {accuracy['after']:.3f}", flush=True)
    return {**accuracy, "validation": validation}


def table(results: dict[int, list[dict[str, Any]]]) -> list[str]:
    """The Markdown table: a row for each staleness, and the paired difference."""
    fresh = [run["after"] for run in results[0]]
    iterations = len(results[0][0]["validation"])
    head = [f"validation after iteration {number}" for number in range(iterations)]
    lines = ["| `data.staleness` | test accuracy after | 0 minus it | " + " | ".join(head) + " |",
             "|" + "---|" * (3 + iterations)]  # fmt: skip
    for staleness, runs in results.items():
        after = [run["after"] for run in runs]
        versus = advantage(fresh, after) if staleness else ""
        along = [interval(*mean_and_interval([run["validation"][n] for run in runs])) for n in range(iterations)]
        lines.append(f"| {staleness} | {interval(*mean_and_interval(after))} | {versus} | {' | '.join(along)} |")
    return lines


def run(seeds: int, runs_dir: Path, workers: int, also: list[str]) -> dict[int, list[dict[str, Any]]]:
    """All fits, in processes of one thread each."""
    jobs = [(staleness, seed, runs_dir, also) for seed in range(seeds) for staleness in (0, 1)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        found = pool.map(fit, jobs, chunksize=1)
    return {staleness: [one for job, one in zip(jobs, found, strict=True) if job[0] == staleness]
            for staleness in (0, 1)}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "staleness", help="where the runs' folders lie")
    parser.add_argument("--results", type=Path, help="file for the page; printed if not given")
    parser.add_argument("also", nargs="*", help="further words of the command, behind --")
    arguments = parser.parse_args()
    os.chdir(ROOT)  # the configuration names its files from here
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers', which import torch after this
    found = run(arguments.seeds, arguments.out, arguments.workers, arguments.also)
    before = interval(*mean_and_interval([one["before"] for one in found[0]]))
    text = "\n".join(
        [
            "# Responses of the policy of the iteration before, on the quickstart's world",
            "",
            f"`{shlex.join(['python', 'experiments/engines/staleness.py', *sys.argv[1:]])}`: {arguments.seeds} seeds,"
            " means with 95 % intervals by Student's t, the difference paired by seed, with a sign-flip test."
            " Sampled accuracy, mean over the four categories; on the test prompts before training"
            f" {before}.",
            "",
            *table(found),
            "",
        ]
    )
    if arguments.results is None:
        print(text)
    else:
        arguments.results.write_text(text)
