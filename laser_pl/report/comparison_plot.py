"""A comparison as a picture."""

from __future__ import annotations

import importlib
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from laser_pl.messages.terminal import shown
from laser_pl.report.comparison import Row
from laser_pl.run.files import writing


def plot_comparison(rows: Sequence[Row], path: Path) -> bool:
    """Average accuracy with its interval, and who judged each category.

    Args:
        rows: Of ``compare``.
        path: The PNG.

    Returns:
        Whether it was drawn; it needs matplotlib.
    """
    try:
        importlib.import_module("matplotlib").use("Agg")
        plt = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return False
    arms = sorted({arm for row in rows for shares in row.shares.values() for arm in shares})
    height = 1.2 + 0.45 * sum(max(len(row.shares), 1) for row in rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, height), layout="constrained")
    names = [_literal(row.name) for row in rows]
    known = [(place, *row.accuracy["average"]) for place, row in enumerate(rows) if "average" in row.accuracy]
    for place, mean, half in known:
        left.errorbar(mean, place, xerr=0 if math.isnan(half) else half, marker="o", capsize=3, color="tab:blue")
    left.set_yticks(range(len(rows)), names)
    left.invert_yaxis()
    left.set_title("average test accuracy")
    bars = [(row.name, category, shares) for row in rows for category, shares in row.shares.items()]
    colors = plt.get_cmap("tab20")
    for place, (_, _, shares) in enumerate(bars):
        start = 0.0
        for number, arm in enumerate(arms):
            right.barh(place, shares.get(arm, 0.0), left=start, color=colors(number % 20))
            start += shares.get(arm, 0.0)
    right.set_yticks(range(len(bars)), [_literal(f"{name}, {category}") for name, category, _ in bars])
    right.invert_yaxis()
    right.set_title("share of prompts judged")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colors(number % 20)) for number in range(len(arms))]
    right.legend(handles, map(_literal, arms), loc="upper left", bbox_to_anchor=(1, 1))
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=110)
    plt.close(figure)
    return True


def _literal(text: str) -> str:
    """Dollar signs start formulas, which names are none; a long one leaves no room for the picture."""
    return textwrap.shorten(shown(text), 40, placeholder="...").replace("$", r"\$")
