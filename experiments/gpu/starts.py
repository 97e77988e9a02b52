"""Whether a run starts at all, and ends where it should."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
import tempfile
from pathlib import Path

import runs
from card import Card, Finding
from sizes import Sizes

import laser_pl

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "experiments" / "study" / "RESULTS.md"


def imports(card: Card, sizes: Sizes) -> Finding:
    """Every module."""
    names = [
        module.name
        for module in pkgutil.walk_packages(laser_pl.__path__, "laser_pl.")
        if not module.name.startswith("laser_pl.docs") and not module.name.endswith("__main__")
    ]
    for name in names:
        importlib.import_module(name)
    told = ", ".join(f"{name} {number}" for name, number in card.versions.items())
    return Finding(f"{len(names)} modules; {told}", True, {"modules": len(names)})


def quickstart(card: Card, sizes: Sizes) -> Finding:
    """The quickstart, whose end is held against the study's runs of it with other seeds."""
    with tempfile.TemporaryDirectory() as scratch:
        summary = runs.fit(card, Path(scratch), brief=sizes.brief).summary
    after, before = summary["accuracy"]["after"]["average"], summary["accuracy"]["before"]["average"]
    low, high = interval_of_one_run(STUDY.read_text(encoding="utf-8"))
    text = (
        f"accuracy {before:.3f} -> {after:.3f} in {summary['seconds']['total']:.0f} s; one run: {low:.3f}..{high:.3f}"
    )
    if sizes.brief:
        return Finding(f"{text}; this one was cut short", None, {"after": after})
    return Finding(text, low <= after <= high, {"after": after, "low": low, "high": high})


def interval_of_one_run(study: str) -> tuple[float, float]:
    r"""Where one more run ends with 95 % probability, by the study's table of the quickstart's world, per batch.

    The table has the mean of n runs and half the width of its interval, :math:`t s / \sqrt n`; one more run is in
    :math:`\pm t s \sqrt{1 + 1/n}` around it, which is :math:`\sqrt{n + 1}` times as wide.

    >>> low, high = interval_of_one_run("## The quickstart's world\n| **default** | nothing | 8 | 0.700 ± 0.020 |")
    >>> round(low, 6), round(high, 6)
    (0.64, 0.76)
    """
    world = study[study.index("## The quickstart's world\n") :]
    found = re.search(r"\| \*\*default\*\* \|[^|]*\| (\d+) \| ([\d.]+) ± ([\d.]+) \|", world)
    if found is None:
        raise ValueError(f"{STUDY} has no row 'default' in its table of the quickstart's world.")
    count, mean, half = int(found[1]), float(found[2]), float(found[3])
    return mean - half * math.sqrt(count + 1), mean + half * math.sqrt(count + 1)
