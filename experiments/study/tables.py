"""What the study's results say, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jobs import Job, Outcome
from strategies import LABELS, USES

from laser_pl.report.statistics import advantage, interval, mean_and_interval

Results = dict[Job, Outcome]


FEWEST = 5
"""Seeds from which an interval means something."""


def spread(values: Sequence[float]) -> str:
    """Mean and 95 % interval over seeds; of fewer than five seeds the values themselves."""
    if len(values) < FEWEST:
        return ", ".join(f"{value:.3f}" for value in values)
    return interval(*mean_and_interval(values))


def select(results: Results, strategy: str, pool: str, granularity: str, objective: str = "dpo") -> dict[int, Outcome]:
    """The outcomes of one way to choose, by seed."""
    return {
        job.seed: outcome
        for job, outcome in sorted(results.items(), key=lambda item: item[0].seed)
        if (job.strategy, job.pool, job.granularity, job.objective) == (strategy, pool, granularity, objective)
    }


def against(ours: dict[int, Outcome], theirs: dict[int, Outcome]) -> str:
    """Mean difference over the seeds that both have; of five or more with its p."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return ""
    if len(seeds) < FEWEST:
        return f"{sum(ours[s].after - theirs[s].after for s in seeds) / len(seeds):+.3f}"
    return advantage([ours[s].after for s in seeds], [theirs[s].after for s in seeds])


def percent(values: Sequence[float]) -> str:
    """The mean of shares; nothing where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return f"{sum(known) / len(known):.0%}" if known else ""


def comparison(results: Results, strategies: Sequence[str], granularity: str, reference: str) -> list[str]:
    """A row for each strategy in the base pool, best first.

    Args:
        results: All of one world.
        strategies: Which.
        granularity: Of the rows.
        reference: The strategy that the others are tested against.
    """
    found = {name: select(results, name, "base", granularity) for name in strategies}
    found = {name: runs for name, runs in found.items() if runs}
    if not found:
        return []
    start = {seed: outcome.before for runs in found.values() for seed, outcome in runs.items()}
    oracle = found.get("oracle", {})
    lines = [
        f"| strategy | what it uses | seeds | accuracy | gain over the start, of the oracle's | `{reference}` minus it"
        " | right specialist, whole run | last iteration | RM forwards |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| start | | {len(start)} | {spread(list(start.values()))} | | | | | |",
    ]

    def mean_after(name: str) -> float:
        return sum(o.after for o in found[name].values()) / len(found[name])

    for name in sorted(found, key=mean_after, reverse=True):
        runs = found[name]
        common = sorted(runs.keys() & oracle.keys())
        gain = ""
        if common:
            gained = sum(runs[s].after - runs[s].before for s in common)
            gain = f"{gained / sum(oracle[s].after - oracle[s].before for s in common):.0%}"
        outcomes = list(runs.values())
        uses = USES.get(name, "one reward model" if name.startswith("single_") else "")
        marked = f"**{name}**" if name not in LABELS and not name.startswith("single_") else name
        lines.append(
            f"| {marked} | {uses} | {len(runs)} | {spread([o.after for o in outcomes])} | {gain}"
            f" | {against(found.get(reference, {}), runs) if name != reference else ''}"
            f" | {percent([o.right for o in outcomes])} | {percent([o.right_at_last for o in outcomes])}"
            f" | {sum(o.forwards for o in outcomes) / len(runs):.2f}x |"
        )
    singles = {name: runs for name, runs in found.items() if name.startswith("single_")}
    if singles:
        seeds = sorted(set.intersection(*(set(runs) for runs in singles.values())))
        average = [sum(runs[s].after for runs in singles.values()) / len(singles) for s in seeds]
        lines.append(f"| average of single reward models | | {len(seeds)} | {spread(average)} | | | | | |")
    return lines


def pools(results: Results, strategies: Sequence[str], names: Sequence[str], granularity: str) -> list[str]:
    """A row for each pool, a column for each strategy: accuracy, seeds, and the share of right specialists at last."""
    lines = []
    for pool in names:
        found = [select(results, name, pool, granularity) for name in strategies]
        cells = []
        for runs in found:
            share = percent([o.right_at_last for o in runs.values()])
            mean = spread([o.after for o in runs.values()]) if runs else ""
            cells.append(mean + (f", {share}" if share else "") + (f" ({len(runs)})" if runs else ""))
        if any(cells):
            lines.append(f"| {pool} | {' | '.join(cells)} |")
    heads = [f"| pool | {' | '.join(strategies)} |", "|---|" + "---|" * len(strategies)]
    return [*heads, *lines] if lines else []


def objectives(results: Results, strategies: Sequence[str], names: Sequence[str], granularity: str) -> list[str]:
    """A row for each objective, a column for each strategy: accuracy, and seeds."""
    lines = []
    for name in names:
        found = [select(results, strategy, "base", granularity, name) for strategy in strategies]
        cells = [f"{spread([o.after for o in runs.values()])} ({len(runs)})" if runs else "" for runs in found]
        if any(cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    heads = [f"| objective | {' | '.join(strategies)} |", "|---|" + "---|" * len(strategies)]
    return [*heads, *lines] if lines else []


def alphas(results: Results, presets: Sequence[str], values: Sequence[float], granularity: str) -> list[str]:
    """A row for each alpha, a column for each preset: accuracy, and the share of wrong specialists, the regret."""
    lines = [
        "| alpha | " + " | ".join(f"{preset}: accuracy | {preset}: wrong arm" for preset in presets) + " |",
        "|---|" + "---|---|" * len(presets),
    ]
    for alpha in values:
        cells = []
        for preset in presets:
            runs = select(results, f"{preset}_alpha_{alpha:g}", "base", granularity)
            if not runs:
                cells += ["", ""]
                continue
            cells.append(spread([o.after for o in runs.values()]))
            cells.append(spread([1 - o.right for o in runs.values()]))
        lines.append(f"| {alpha:g} | {' | '.join(cells)} |")
    return lines
