"""The page's figures as PNG, for papers."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any, BinaryIO

from laser_pl.errors import ConfigurationError
from laser_pl.report.charts import DASHES, PALETTE, Bars, Chart, Figure, Heat, Lines, Stack
from laser_pl.report.series import unbroken
from laser_pl.report.text import line
from laser_pl.run.files import writing

STYLE = {
    "font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "figure.dpi": 200, "legend.frameon": False,
}  # fmt: skip
COLUMNS = 3
"""Charts side by side, each 3.2 inches wide: a figure fills a page's width at its own size."""


def write_figures(figures: Sequence[Figure], run: Path) -> list[Path]:
    """Each figure that has charts as ``figures/<name>.png`` in a run's folder.

    Raises:
        ConfigurationError: Without matplotlib.
    """
    try:
        importlib.import_module("matplotlib").use("Agg")
        plt: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ConfigurationError("--png needs matplotlib: pip install 'laser_pl[report]'") from error
    written = []
    with plt.rc_context(STYLE):
        for figure in figures:
            if figure.charts:
                path = run / "figures" / f"{figure.name}.png"
                with writing(path, run) as file:
                    _write(plt, figure, file)
                written.append(path)
    return written


def _write(plt: Any, figure: Figure, file: BinaryIO) -> None:
    columns = min(COLUMNS, len(figure.charts))
    rows = math.ceil(len(figure.charts) / columns)
    names = [_literal(name, 24) for name, _ in figure.legend]
    width = 3.2 * columns
    side_by_side = max(1, int(width / (0.6 + 0.09 * max(map(len, names), default=0))))
    height = 2.5 * rows + 0.3 * math.ceil(len(names) / side_by_side)
    picture, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
    places = list(axes.flat)
    for chart, place in zip(figure.charts, places, strict=False):
        _draw(chart, place)
        place.set_title(_literal(chart.title, 32), loc="left")
    for place in places[len(figure.charts) :]:
        place.set_visible(False)
    if names:
        handles = [plt.Line2D([], [], linewidth=4, **_look(key)) for _, key in figure.legend]
        picture.legend(handles, names, loc="outside lower center", ncols=side_by_side)
    picture.savefig(file, format="png")
    plt.close(picture)


@singledispatch
def _draw(chart: Chart, axes: Any) -> None:
    raise TypeError(f"nobody draws {type(chart).__name__}")


@_draw.register
def _(chart: Lines, axes: Any) -> None:
    for series in chart.series:
        look, few = _look(series.key), len(series.points) <= 30
        for piece in unbroken(series.points):
            xs, ys = zip(*piece, strict=True)
            if series.kind == "rings":
                axes.plot(xs, ys, "o", fillstyle="none", color=look["color"], clip_on=False)
            elif series.kind == "faint":
                axes.plot(
                    xs,
                    ys,
                    marker="" if len(xs) > 1 else ".",
                    markersize=2,
                    color=look["color"],
                    alpha=0.3,
                    linewidth=0.7,
                )
            else:
                marker = "o" if few or len(xs) == 1 else ""
                axes.plot(xs, ys, marker=marker, markersize=3, clip_on=False, **look)
        if series.upper:
            xs, ys = zip(*series.points, strict=True)
            axes.fill_between(xs, ys, [y for _, y in series.upper], color=look["color"], alpha=0.2, linewidth=0)
    low, high = chart.y_range
    axes.set_ylim(low, high if high > low else low + 1.0)
    _finish(axes, chart.x, chart.marks, chart.percent)


@_draw.register
def _(chart: Stack, axes: Any) -> None:
    below = [0.0] * (len(chart.edges) - 1)
    for key, shares in enumerate(chart.shares):
        above = [low + share for low, share in zip(below, shares, strict=True)]
        axes.stairs(above, chart.edges, baseline=below, fill=True, color=_look(key)["color"])
        below = above
    axes.set_ylim(0, 1)
    axes.margins(x=0)
    _finish(axes, chart.x, chart.marks, percent=True)


@_draw.register
def _(chart: Heat, axes: Any) -> None:
    values = [[math.nan if value is None else value for value in row] for row in chart.values]
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for r, row in enumerate(values):
        for c, value in enumerate(row):
            if not math.isnan(value):
                axes.text(c, r, f"{100 * value:.0f}", ha="center", va="center", color="w" if value > 0.6 else "k")
    axes.set_xticks(range(len(chart.columns)), [_literal(name) for name in chart.columns], rotation=40, ha="right")
    axes.set_yticks(range(len(chart.rows)), [_literal(name) for name in chart.rows])
    axes.grid(False)


@_draw.register
def _(chart: Bars, axes: Any) -> None:
    bars = axes.barh(range(len(chart.names)), chart.amounts, color=[_look(key)["color"] for key in chart.keys])
    axes.bar_label(bars, chart.labels, padding=3)
    axes.set_yticks(range(len(chart.names)), [_literal(name) for name in chart.names])
    axes.set_xticks([])
    axes.set_xlim(0, 1.45 * max(max(chart.amounts), 1e-9))
    axes.invert_yaxis()
    axes.grid(False)


def _finish(axes: Any, x: str, marks: Sequence[float], percent: bool) -> None:
    for mark in marks:
        axes.axvline(mark, color="k", linewidth=0.7, linestyle=":")
    axes.set_xlabel(x)
    if percent:
        axes.yaxis.set_major_formatter("{x:.0%}")


def _look(key: int) -> dict[str, Any]:
    dash = DASHES[key // len(PALETTE) % len(DASHES)]
    pattern = [float(number) for number in dash.split()]
    return {"color": PALETTE[key % len(PALETTE)], "linestyle": (0, pattern) if pattern else "-"}


def _literal(name: str, limit: int = 14) -> str:
    """Dollar signs start formulas, which names are none; a long one beside an axis leaves no room for the chart."""
    return line(name, limit).replace("$", r"\$")
