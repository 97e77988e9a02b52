"""Would what a bandit observed have told it more if it had been kept by category, and not by context? Trains nothing.

Run:  python experiments/study/kept.py RUNS/third-base-few-batch-*
Cost: seconds; the runs' folders, as ``run.py --out RUNS`` leaves them.

Before each decision an arm is worth the mean of what was observed of it in that category, drawn toward 0 as by one more
observation; the arm that is worth most is named, and nothing is explored. Other choices would have trained another
policy and so brought other observations, least so where a signal asks all reward models on some prompts.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs import share_of_right
from worlds import WORLDS

Decision = dict[str, Any]


def kept_by_category(decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions with the arms that means by category name; before anything is observed none is."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    named = []
    for decision in decisions:
        category, seen = decision["category"], decision["reward"] or {}
        worth = {arm: total / (counts[category][arm] + 1) for arm, total in sums[category].items()}
        named.append({**decision, "arm": max(worth, key=worth.__getitem__) if worth else None})
        for arm, reward in seen.items():
            sums[category][arm] += reward
            counts[category][arm] += 1
    return named


def shares(folders: Sequence[Path], right: dict[str, str]) -> list[float]:
    """Share of decisions for the right specialist: as the runs were and at last, and by category, mean over runs."""
    found = []
    for folder in folders:
        lines = (folder / "selection.jsonl").read_text(encoding="utf-8").splitlines()
        decisions = [json.loads(line) for line in lines]
        last = max(decision["iteration"] for decision in decisions)
        for one in (decisions, kept_by_category(decisions)):
            found += [share_of_right([d for d in one if d["iteration"] >= since], right) for since in (0, last)]
    return [sum(found[place::4]) / len(folders) for place in range(4)]


def main(args: Sequence[str] | None = None) -> None:
    """Print a row for each strategy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="Folders of runs, named as run.py names them.")
    by_strategy: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for folder in parser.parse_args(args).runs:
        world, _, strategy, *_ = folder.name.split("-")
        by_strategy[world, strategy].append(folder)
    print("| strategy | runs | right, as the bandit chose | last iteration | kept by category | last iteration |")
    print("|---|---|---|---|---|---|")
    for (world, strategy), folders in by_strategy.items():
        cells = " | ".join(f"{share:.0%}" for share in shares(folders, WORLDS[world].right))
        print(f"| {strategy} | {len(folders)} | {cells} |")


if __name__ == "__main__":
    main()
