"""One fit of the study."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from strategies import layers
from worlds import POOLS, ROOT, WORLDS, Arms, World

from laser_pl.report.summary import checked_out


@dataclass(frozen=True)
class Job:
    """Which fit.

    Attributes:
        world: One of ``WORLDS``.
        pool: One of ``POOLS``.
        strategy: See ``strategies.layers``.
        granularity: ``batch`` or ``prompt``.
        seed: Of training.
        objective: ``dpo``, or a file's name in ``experiments/objectives``.
    """

    world: str
    pool: str
    strategy: str
    granularity: str
    seed: int
    objective: str = "dpo"

    @property
    def name(self) -> str:
        """The name of its run."""
        of = "" if self.objective == "dpo" else f"-{self.objective}"
        return f"{self.world}-{self.pool}-{self.strategy}-{self.granularity}-{self.seed}{of}"


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        before: Test accuracy at the start, mean over categories.
        after: At the end.
        by_category: At the end.
        right: Share of decisions for the right specialist, mean over categories; NaN where it was no arm.
        right_at_last: The same in the last iteration.
        forwards: Reward-model forwards for each response that was sampled.
        commit: Of the code that ran.
    """

    before: float
    after: float
    by_category: dict[str, float]
    right: float
    right_at_last: float
    forwards: float
    commit: str


def run(job: Job, out: Path) -> tuple[Job, Outcome]:
    """Fit, and read the result.

    Args:
        job: Which.
        out: Where the runs' folders lie.
    """
    folder = out / job.name
    shutil.rmtree(folder, ignore_errors=True)  # of a fit that was broken off
    _fit(job, out)
    for leftover in ("rollouts", "checkpoints"):
        shutil.rmtree(folder / leftover)
    outcome = read(job, folder, checked_out(ROOT))
    print(f"{job.name}: {outcome.before:.3f} -> {outcome.after:.3f}", flush=True)
    return job, outcome


def _fit(job: Job, out: Path) -> None:
    world = WORLDS[job.world]
    arms = POOLS[job.pool](world)
    if job.pool != "late":
        return _main(job, out, world, arms, [])
    early = {name: arm for name, arm in arms.items() if name != world.late}
    _main(job, out, world, early, ["--trainer.max_epochs", "2"])
    (out / job.name / "summary.json").unlink()  # it goes on
    return _main(job, out, world, arms, ["--resume"])


def _main(job: Job, out: Path, world: World, arms: Arms, more: list[str]) -> None:
    from laser_pl.commands.cli import main  # in the worker, which costs its imports once

    strategy = layers(job.strategy, world, arms)
    overlay = out / "layers" / f"{job.name}{len(arms)}.yaml"
    overlay.parent.mkdir(parents=True, exist_ok=True)
    overlay.write_text(yaml.safe_dump({"selection": strategy.selection}, sort_keys=False), encoding="utf-8")
    files = [world.config, *([world.per_prompt] if job.granularity == "prompt" else [])]
    # Under the strategy, whose signal it learns from; an example's own is for those who name none.
    files += [] if job.objective == "dpo" else [f"experiments/objectives/{job.objective}.yaml"]
    files += [*strategy.files, str(overlay)]
    command = ["fit", *(word for file in files for word in ("--config", file)), "--seed_everything", str(job.seed)]
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        main([*command, "--name", job.name, "--runs_dir", str(out), "--trainer.limit_val_batches", "0", *more])


def read(job: Job, folder: Path, commit: str) -> Outcome:
    """The result of a finished fit of the code at a commit."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    lines = (folder / "selection.jsonl").read_text(encoding="utf-8").splitlines()
    decisions = [json.loads(line) for line in lines]
    right = WORLDS[job.world].right
    last = max(decision["iteration"] for decision in decisions)
    accuracy = summary["accuracy"]
    done = sum(summary["reward_model_forwards"].values())
    responses = _responses(decisions, folder)
    return Outcome(
        before=accuracy["before"]["average"],
        after=accuracy["after"]["average"],
        by_category={name: value for name, value in accuracy["after"].items() if name != "average"},
        right=share_of_right(decisions, right),
        right_at_last=share_of_right([decision for decision in decisions if decision["iteration"] == last], right),
        forwards=done / responses,
        commit=commit,
    )


def _responses(decisions: list[dict[str, Any]], folder: Path) -> int:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    n: int = config["data"]["rollouts"]["n"]
    return n * sum(len(decision["prompt_ids"]) for decision in decisions)


def share_of_right(decisions: list[dict[str, Any]], right: dict[str, str]) -> float:
    """Mean over categories of the share of decisions for their specialist; NaN where there was no choice."""
    counts: dict[str, Counter[bool]] = {}
    for decision in decisions:
        specialist = right.get(decision["category"])
        if specialist in decision["mean"] and len(decision["mean"]) > 1:
            counts.setdefault(decision["category"], Counter())[decision["arm"] == specialist] += 1
    if not counts:
        return float("nan")
    return sum(count[True] / count.total() for count in counts.values()) / len(counts)
