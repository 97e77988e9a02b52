"""Finished runs, as their folders describe them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps
from laser_pl.report.kinds import OF_SUMMARY, holds
from laser_pl.report.records import MOST_CATEGORIES
from laser_pl.report.strategy_names import Setting, names, stems
from laser_pl.run.files import read_text
from laser_pl.run.folder import RunFolder
from laser_pl.run.former_settings import with_new_names

_NEEDED = {name: OF_SUMMARY[name] for name in ("accuracy", "arm_share", "seconds", "reward_model_forwards")}

NO_STRATEGY = {
    ("seed_everything",), ("model", "seed"), ("data", "seed"), ("selection", "seed"),
    ("selection", "signal", "init_args", "seed"),
    ("name",), ("runs_dir",), ("resume",), ("config",), ("checkpoint_every",), ("keep_iterations",), ("quiet",),
    ("trainer", "logger"), ("trainer", "default_root_dir"), ("trainer", "enable_progress_bar"),
}  # fmt: skip
"""Settings that make no other strategy: seeds, and where a run lies and who is informed. Exactly these: the ``name`` of
weights, or a reward model's own ``seed``, makes another one."""


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
    def name(self) -> str:
        """Its folder's."""
        return Path(os.path.abspath(self.folder)).name

    @property
    def strategy(self) -> dict[str, Any]:
        """All settings that distinguish it from another strategy."""
        found: dict[str, Any] = _without(self.config, NO_STRATEGY)
        return found

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
        }

    @property
    def measure(self) -> dict[str, Any]:
        """How its accuracy was measured, by what that is called in a message."""
        data, model = self.config["data"], self.config["model"]
        of_train = {name: data.get(name) for name in ("train", "test_fraction", "split_seed")}
        return {
            "test prompts": of_train if data["test"] is None else data["test"],
            "limit_test_batches": (self.config.get("trainer") or {}).get("limit_test_batches"),
            "matcher": model.get("matcher"),
            "evaluation": model.get("evaluation"),
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
        summary = json.loads(read_text(files.summary, folder))
        if not holds(summary, _NEEDED, OF_SUMMARY):
            raise ValueError("summary.json holds other things than a run writes there")
        if max(map(len, (summary["arm_share"], *summary["arm_share"].values())), default=0) > MOST_CATEGORIES:
            raise ValueError(f"summary.json names more than {MOST_CATEGORIES:,} categories or reward models")
        run = Run(folder, with_new_names(files.read_config()), summary)
        _ = run.seed, run.budget, run.measure, run.accuracy, run.forwards, run.seconds, summary["arm_share"]
    except ConfigurationError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, OSError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigurationError(f"The run '{folder}' cannot be read ({reason}). Leave it out.") from error
    return run


def by_strategy(runs: Sequence[Run]) -> dict[str, dict[int, Run]]:
    """Runs whose settings are the same but for the seed, by a name for them and by seed.

    The name is that of their folders without the seed; settings are added where strategies need them.

    Raises:
        ConfigurationError: If two runs of one strategy have the same seed.
    """
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        group = groups.setdefault(json.dumps(run.strategy, sort_keys=True), {})
        if run.seed in group:
            raise ConfigurationError(
                f"The runs '{group[run.seed].folder}' and '{run.folder}' have the same configuration and the same seed,"
                f" {run.seed}. Leave one of them out."
            )
        group[run.seed] = run
    stem = dict(zip(map(id, runs), stems([(run.name, run.seed) for run in runs]), strict=True))
    firsts = [next(iter(group.values())) for group in groups.values()]
    named = names([stem[id(run)] for run in firsts], [run.strategy for run in firsts])
    return {name: dict(sorted(group.items())) for name, group in zip(named, groups.values(), strict=True)}


def strategy_called(name: str, strategies: Mapping[str, Mapping[int, Run]]) -> str:
    """The strategy of that name, or of the run of that name or folder.

    Raises:
        ConfigurationError: If there is none, or there are several.
    """
    if name in strategies:
        return name
    path = os.path.abspath(name)
    found = [
        strategy
        for strategy, group in strategies.items()
        if any(name == run.name or path == os.path.abspath(run.folder) for run in group.values())
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigurationError(
            f"--baseline is '{name}', which is the name of runs of several strategies: {', '.join(found)}. Give one of"
            " these names, or the run's folder."
        )
    advice = perhaps(closest(name, strategies))
    raise ConfigurationError(f"--baseline is '{name}'; the strategies are {', '.join(strategies)}.{advice}")


def refuse_different_budgets(strategies: Mapping[str, Mapping[int, Run]]) -> None:
    """Compare like with like.

    Raises:
        ConfigurationError: If two runs were allowed different things, or measured in different ways; it names the first
            difference.
    """
    runs = [run for group in strategies.values() for run in group.values()]
    for run in runs[1:]:
        for what, value in runs[0].budget.items():
            if run.budget[what] != value:
                raise ConfigurationError(
                    f"The runs '{runs[0].folder}' and '{run.folder}' had different budgets: {what} {value} and"
                    f" {run.budget[what]}. Compare them nevertheless with --different-budgets."
                )
        for what, value in runs[0].measure.items():
            if run.measure[what] != value:
                raise ConfigurationError(
                    f"The runs '{runs[0].folder}' and '{run.folder}' were not measured alike: {what} {value} and"
                    f" {run.measure[what]}. Compare them nevertheless with --different-budgets."
                )


def _without(config: Any, settings: Set[Setting], where: Setting = ()) -> Any:
    if not isinstance(config, dict):
        return config
    return {
        key: _without(value, settings, (*where, key)) for key, value in config.items() if (*where, key) not in settings
    }
