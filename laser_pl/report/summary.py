"""A run in numbers: ``summary.json`` and the closing table."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from laser_pl import __version__
from laser_pl.messages.amounts import in_words
from laser_pl.messages.percentages import in_per_cent
from laser_pl.messages.terminal import as_markup, shown

PACKAGES = ("lightning", "torch", "transformers", "peft", "bitsandbytes", "datasets", "wandb", "torchmetrics")


def versions() -> dict[str, str]:
    """Versions of Python, this package and what its results depend on, as far as it is installed."""
    return {"laser_pl": __version__, "python": platform.python_version(), **_installed(PACKAGES)}


def _installed(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are here: a run that needed none of another must not end for want of its number.

    >>> _installed(["no-such-package"])
    {}
    """
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def checked_out(folder: Path) -> str:
    """The commit of the repository that a folder lies in, for results that say what made them."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=folder)
    return found.stdout.strip() or "unknown"


def arm_shares(shares: Mapping[str, Mapping[str, int]], arms: Sequence[str]) -> dict[str, dict[str, float]]:
    """Share of each category's prompts that each arm judged; arms that are gone by now come last.

    >>> arm_shares({"sums": {"a": 3, "b": 1}}, ["a", "b"])
    {'sums': {'a': 0.75, 'b': 0.25}}
    """
    gone = sorted({arm for counts in shares.values() for arm in counts} - set(arms))
    return {
        category: {arm: counts.get(arm, 0) / sum(counts.values()) for arm in [*arms, *gone]}
        for category, counts in sorted(shares.items())
    }


def print_end(summary: Mapping[str, Any], folder: str, quiet: bool) -> None:
    """A run's last words on standard output: the closing table, or where the run lies and no more."""
    if quiet:
        print(f"Run: {shown(folder)}")
    else:
        print_summary(summary, folder)


def print_summary(summary: Mapping[str, Any], folder: str, console: Console | None = None) -> None:
    """The closing table: accuracy before and after, who judged what, where the time went, what was saved.

    Args:
        summary: What ``summary.json`` holds.
        folder: The run's folder.
        console: Where to print; standard output if not given.
    """
    console = console or Console(highlight=False)
    console.print(_accuracy_table(summary))
    seconds, forwards = summary["seconds"], summary["reward_model_forwards"]
    total = seconds["total"]
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items() if name != "total")
    console.print(f"Time: {total:.1f} s ({parts})")
    by_model = "; ".join(f"{as_markup(arm)} {count:,}" for arm, count in forwards.items())
    avoided = avoided_in_words(summary["reward_model_forwards_avoided"])
    console.print(f"Reward-model forwards: {sum(forwards.values()):,} done, {avoided} ({by_model})")
    for name, spent in summary.get("reward_model_spending", {}).items():
        console.print(f"Spent on {as_markup(name)}: {in_words(spent)}")
    for name, kinds in summary["labels_missing"].items():
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        console.print(f"Labels that {as_markup(name)} did not give: {counts}")
    for name, categories in summary["constraints"].items():
        counts = ", ".join(
            f"{as_markup(category)} {count['failed']} of {count['responses']}" for category, count in categories.items()
        )
        console.print(f"Forbidden by {as_markup(name)}: {counts}")
    if summary["steps_without_pairs"]:
        console.print(f"Steps skipped for want of pairs: {summary['steps_without_pairs']} of {summary['steps']}")
    if summary["steps_not_finite"]:
        console.print(f"Steps skipped as not finite: {summary['steps_not_finite']} of {summary['steps']}")
    console.print(f"Run: {as_markup(folder)}", soft_wrap=True)


def avoided_in_words(count: int) -> str:
    """Forwards that choosing saved, against every arm scoring every response once; signals can ask for more than that.

    >>> avoided_in_words(84), avoided_in_words(-6)
    ('84 avoided', '6 more than by asking every reward model once')
    """
    return f"{count:,} avoided" if count >= 0 else f"{-count:,} more than by asking every reward model once"


def _accuracy_table(summary: Mapping[str, Any]) -> Table:
    before, after = summary["accuracy"]["before"] or {}, summary["accuracy"]["after"] or {}
    if not before and not after:
        return _judges_table(summary["arm_share"])
    table = Table(title="Test accuracy of sampled responses", title_justify="left")
    table.add_column("category")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    table.add_column("scored by")
    names = dict.fromkeys(name for part in (after, before, summary["arm_share"]) for name in part if name != "average")
    for category in [*names, *(["average"] if "average" in after or "average" in before else [])]:
        both = category in before and category in after
        change = f"{after[category] - before[category]:+.3f}" if both else ""
        shares = "" if category == "average" else ", ".join(in_per_cent(summary["arm_share"].get(category, {})))
        if category == "average":
            table.add_section()
        table.add_row(
            as_markup(category), _number(before.get(category)), _number(after.get(category)), change, as_markup(shares)
        )
    return table


def _judges_table(shares: Mapping[str, Mapping[str, float]]) -> Table:
    """Who scored, where nothing was tested."""
    table = Table(title="Who scored", title_justify="left")
    table.add_column("category")
    table.add_column("scored by")
    for category, own in shares.items():
        table.add_row(as_markup(category), as_markup(", ".join(in_per_cent(own))))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
