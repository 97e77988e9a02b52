"""Finished runs, as their folders tell of them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from laser_pl.errors import ConfigurationError
from laser_pl.run.folder import RunFolder

NO_STRATEGY = {"seed_everything", "seed", "name", "runs_dir", "resume", "checkpoint_every", "ckpt_path", "logger",
               "default_root_dir", "enable_progress_bar", "quiet", "config"}  # fmt: skip
"""Settings, at any depth, that make no other strategy."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it lies.
        config: Its ``config.yaml``.
        summary: Its ``summary.json``.
    """

    folder: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def seed(self) -> int:
        """Root of its randomness."""
        return int(self.config["seed_everything"])

    @property
    def strategy(self) -> str:
        """All settings that tell it from another strategy, as text."""
        return json.dumps(_without(self.config, NO_STRATEGY), sort_keys=True)

    @property
    def stem(self) -> str:
        """Its name without the number behind it."""
        return re.sub(r"[-_]?\d+$", "", self.folder.name) or self.folder.name

    @property
    def budget(self) -> dict[str, Any]:
        """What it was allowed, by what it is called in a message."""
        data, pairs = self.config["data"], self.config["selection"]["pairs"]
        return {
            "iterations": self.summary["iterations"],
            "training prompts": data["train"],
            # Not the number of steps: with one category per batch it depends on the seed.
            "prompts per iteration": data.get("prompts_per_iteration"),
            "prompts per batch": data["batch_size"],
            "responses per prompt": data["rollouts"]["n"],
            "pairs per prompt": (pairs.get("init_args") or {}).get("per_prompt"),
            "test prompts": data["test"],
        }

    @property
    def accuracy(self) -> dict[str, float]:
        """At the end, by category and on average; empty if there were no answers."""
        return dict(self.summary["accuracy"]["after"] or {})

    @property
    def forwards(self) -> int:
        """Of all reward models."""
        return sum(self.summary["reward_model_forwards"].values())

    @property
    def seconds(self) -> float:
        """Wall clock."""
        return float(self.summary["seconds"]["total"])


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        ConfigurationError: If it is none.
    """
    files = RunFolder(folder)
    files.refuse_other()
    if not files.summary.is_file():
        raise ConfigurationError(f"The run '{folder}' is not finished. Go on with it by --resume, or leave it out.")
    try:
        summary = json.loads(files.summary.read_text(encoding="utf-8"))
        config = yaml.safe_load(files.config.read_text(encoding="utf-8"))
        run = Run(folder, config, summary)
        _ = run.seed, run.budget, run.accuracy, run.forwards, run.seconds, summary["arm_share"]
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigurationError(f"The run '{folder}' cannot be read ({reason}). Leave it out.") from error
    return run


def by_strategy(runs: Sequence[Run]) -> dict[str, dict[int, Run]]:
    """Runs whose settings are the same but for the seed, by a name for them and by seed.

    The name is the first folder's without the number behind it; where a strategy before has it already, a number of
    its own is added.

    Raises:
        ConfigurationError: If two runs of one strategy have the same seed.
    """
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        group = groups.setdefault(run.strategy, {})
        if run.seed in group:
            raise ConfigurationError(
                f"The runs '{group[run.seed].folder}' and '{run.folder}' have the same configuration and the same seed,"
                f" {run.seed}. Leave one of them out."
            )
        group[run.seed] = run
    named: dict[str, dict[int, Run]] = {}
    for group in groups.values():
        stem = next(iter(group.values())).stem
        names = (stem if number == 1 else f"{stem} ({number})" for number in itertools.count(1))
        named[next(name for name in names if name not in named)] = dict(sorted(group.items()))
    return named


def refuse_different_budgets(strategies: dict[str, dict[int, Run]]) -> None:
    """Compare like with like.

    Raises:
        ConfigurationError: If two runs were allowed different things; it names the first difference.
    """
    runs = [run for group in strategies.values() for run in group.values()]
    for run in runs[1:]:
        for what, value in runs[0].budget.items():
            if run.budget[what] != value:
                raise ConfigurationError(
                    f"The runs '{runs[0].folder}' and '{run.folder}' had different budgets: {what} {value} and"
                    f" {run.budget[what]}. Compare them nevertheless with --different-budgets."
                )


def _without(config: Any, names: set[str]) -> Any:
    if isinstance(config, dict):
        return {key: _without(value, names) for key, value in config.items() if key not in names}
    if isinstance(config, list):
        return [_without(value, names) for value in config]
    return config
