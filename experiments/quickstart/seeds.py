"""How every way to choose fares on the quickstart's world, over several training seeds.

Run:  python experiments/quickstart/seeds.py --seeds 10
Cost: about 20 s per fit and core; 6 strategies x 2 granularities x 10 seeds take about 30 minutes on 2 cores. A fit
that is in --out already is not run again, so the command can be stopped and started.

It writes ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import shutil
import sys
from contextlib import redirect_stdout
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from laser_pl.report.statistics import advantage, mean_and_interval
from laser_pl.report.summary import checked_out

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OVERLAYS = {
    "default": "experiments/presets/default.yaml",
    "paper": "experiments/presets/paper.yaml",
    "gap": "experiments/presets/gap.yaml",
    "trusted": "experiments/presets/trusted.yaml",
    "random": "experiments/quickstart/random.yaml",
    "specialist": "experiments/quickstart/specialist.yaml",
    "bare_context": "experiments/quickstart/ablations/bare_context.yaml",
    "common_baseline": "experiments/quickstart/ablations/common_baseline.yaml",
    "low_alpha": "experiments/quickstart/ablations/low_alpha.yaml",
}
MAIN = ["default", "paper", "gap", "trusted", "random", "specialist"]
GRANULARITIES = {"batch": [], "prompt": ["--config", "experiments/quickstart/per_prompt.yaml"]}
USES = {
    "default": "negative loss, baseline by context",
    "paper": "negative loss, published constants",
    "gap": "the judge's own score gap",
    "trusted": "answers to 1/8 of the training prompts",
    "random": "nothing",
    "specialist": "the world card",
    "bare_context": "as default, contexts as they are",
    "common_baseline": "as default, one baseline for all contexts",
    "low_alpha": "as default, alpha 0.3",
}
SPECIALISTS = {"addition": "numbers", "comparing": "numbers", "sorting": "sorter", "reversing": "mirror"}
Job = tuple[str, str, int, Path, list[str]]
"""Strategy, granularity, seed, where its run's folder lies, and further overlays."""


def fit(job: Job) -> dict[str, Any]:
    """Run one fit through the command line's own entry, or read its summary if it was run before."""
    strategy, granularity, seed, runs_dir, also = job
    name = f"{strategy}-{granularity}-{seed}"
    summary = runs_dir / name / "summary.json"
    if not summary.exists():
        from laser_pl.commands.cli import main  # in the worker, which costs its imports once

        shutil.rmtree(runs_dir / name, ignore_errors=True)
        command = ["fit", "--config", "experiments/quickstart.yaml", *GRANULARITIES[granularity]]
        command += ["--config", OVERLAYS[strategy], "--seed_everything", str(seed)]
        command += [word for path in also for word in ("--config", path)]
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            main([*command, "--name", name, "--runs_dir", str(runs_dir)])
        for leftover in ("rollouts", "checkpoints"):
            shutil.rmtree(runs_dir / name / leftover)
    result: dict[str, Any] = json.loads(summary.read_text())
    print(
        f"{name}: {result['accuracy']['before']['average']:.3f} -> {result['accuracy']['after']['average']:.3f}",
        flush=True,
    )
    return result


def right_share(result: dict[str, Any]) -> float:
    """Share of prompts that the category's specialist judged, mean over categories."""
    shares = [share.get(SPECIALISTS[category], 1.0) for category, share in result["arm_share"].items()]
    return sum(shares) / len(shares)


def table(results: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    """The Markdown table."""
    seeds = len(next(iter(results.values())))
    after = {key: [r["accuracy"]["after"]["average"] for r in runs] for key, runs in results.items()}
    before = [r["accuracy"]["before"]["average"] for r in next(iter(results.values()))]
    mean, half = mean_and_interval(before)
    lines = [
        "| strategy | what it uses | per | accuracy after | seeds 5 points above start | `default` minus it"
        " | specialist chosen | RM forwards |",
        "|---|---|---|---|---|---|---|---|",
        f"| start | | | {mean:.3f} ± {half:.3f} | | | | |",
    ]
    for (strategy, granularity), runs in results.items():
        mean, half = mean_and_interval(after[strategy, granularity])
        above = sum(a >= b + 0.05 for a, b in zip(after[strategy, granularity], before, strict=True))
        ours = after.get(("default", granularity))
        versus = "" if strategy == "default" or ours is None else advantage(ours, after[strategy, granularity])
        share = sum(map(right_share, runs)) / seeds
        done = [sum(r["reward_model_forwards"].values()) for r in runs]
        asked = [d + r["reward_model_forwards_avoided"] for d, r in zip(done, runs, strict=True)]
        arms = 1 if strategy == "specialist" else 5
        forwards = sum(arms * d / a for d, a in zip(done, asked, strict=True)) / seeds
        lines.append(
            f"| {strategy} | {USES[strategy]} | {granularity} | {mean:.3f} ± {half:.3f} | {above} of {seeds} | {versus}"
            f" | {share:.0%} | {forwards:.2f}x |"
        )
    return lines


def page(results: dict[tuple[str, str], list[dict[str, Any]]], command: str) -> str:
    """The results with what is needed to repeat them."""
    seconds = [run["seconds"]["total"] for runs in results.values() for run in runs]
    seeds = len(next(iter(results.values())))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "transformers", "peft"))
    return "\n".join(
        [
            "# The quickstart's world, every way to choose",
            "",
            f"Written by `{command}` on {date.today()}, at commit {checked_out(ROOT)}, Python"
            f" {platform.python_version()}, {versions}; one thread a fit, {sum(seconds) / len(seconds):.0f} s a fit on"
            " average.",
            "",
            f"Test accuracy of sampled responses (temperature 0.8), mean over the four categories, then over {seeds}"
            " seeds with the 95 % interval by Student's t. The seeds are those of training (adapter, prompt order,"
            " rollouts, ties); the world is the one in this folder. Differences are paired by seed, with a sign-flip"
            " permutation test. Per batch: one reward model for 16 prompts of one category. Per prompt: one for each"
            " prompt, in mixed batches. Forwards are relative to scoring every response once.",
            "",
            *table(results),
            "",
        ]
    )


def run(
    seeds: int, strategies: list[str], granularities: list[str], runs_dir: Path, workers: int, also: list[str]
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """All fits, in parallel processes of one thread each."""
    jobs = [(s, g, seed, runs_dir, also) for seed in range(seeds) for g in granularities for s in strategies]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        summaries = pool.map(fit, jobs, chunksize=1)
    results: dict[tuple[str, str], list[dict[str, Any]]] = {(s, g): [] for g in granularities for s in strategies}
    for (strategy, granularity, *_), summary in zip(jobs, summaries, strict=True):
        results[strategy, granularity].append(summary)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--strategies", nargs="+", choices=[*OVERLAYS], default=MAIN)
    parser.add_argument("--granularities", nargs="+", choices=[*GRANULARITIES], default=[*GRANULARITIES])
    parser.add_argument("--also", nargs="+", default=[], help="overlays for every fit; give them an --out of their own")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "seeds", help="where the runs' folders lie")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    arguments = parser.parse_args()
    os.chdir(ROOT)  # the configurations name their files from here
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers', which import torch after this
    every = run(
        arguments.seeds,
        arguments.strategies,
        arguments.granularities,
        arguments.out,
        arguments.workers,
        arguments.also,
    )
    text = page(every, shlex.join(["python", "experiments/quickstart/seeds.py", *sys.argv[1:]]))
    arguments.results.write_text(text)
    print(text)
