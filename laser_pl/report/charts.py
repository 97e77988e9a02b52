"""Charts as data: what is drawn, before anybody draws it. ``svg.py`` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from laser_pl.report.series import Point, known

PALETTE = ("#0072B2", "#C58700", "#009E73", "#B84300", "#C06A99", "#3294CB", "#666666", "#9A8F00")
"""Okabe and Ito's, which colour-blind people distinguish, for white paper: the lighter ones are darker, and so is the
fourth, to differ from the second. Grey for black, which a dark page swallows."""

DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""After the last colour the first comes again, dashed."""


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        name: What the legend calls it; empty for none.
        points: In the order of x, with gaps where nothing is known.
        key: Its colour and dash: the place among all names of its kind, so that an arm is the same colour everywhere.
        kind: A line, a faint line behind it, or rings.
        upper: The upper edge of a band above the line; as many points.
    """

    name: str
    points: Sequence[Point]
    key: int = 0
    kind: Literal["line", "faint", "rings"] = "line"
    upper: Sequence[Point] = ()


@dataclass(frozen=True)
class Lines:
    """Lines over steps or iterations.

    Attributes:
        title: What is drawn.
        x: What the axis is called.
        series: The lines.
        percent: Whether values are shares, drawn from 0 to 1.
        marks: Where iterations begin.
        y: Lowest and highest value drawn; those that there are if not given.
    """

    title: str
    x: str
    series: Sequence[Series]
    percent: bool = False
    marks: Sequence[float] = ()
    y: tuple[float, float] | None = None

    @property
    def x_range(self) -> tuple[float, float]:
        """From the first point to the last."""
        xs = [x for series in self.series for x, _ in series.points]
        return min(xs), max(xs)

    @property
    def y_range(self) -> tuple[float, float]:
        """From the bottom to the top."""
        if self.percent:
            return 0.0, 1.0
        ys = known([y for series in self.series for _, y in [*series.points, *series.upper]])
        return self.y or (min(ys), max(ys))


@dataclass(frozen=True)
class Stack:
    """Shares that add up to one, over steps.

    Attributes:
        title: What is drawn.
        x: What the axis is called.
        edges: Where bins begin and end, one more than there are bins.
        names: Whose shares.
        shares: Of each name in each bin. ``names`` times bins.
        marks: Where iterations begin.
    """

    title: str
    x: str
    edges: Sequence[float]
    names: Sequence[str]
    shares: Sequence[Sequence[float]]
    marks: Sequence[float] = ()


@dataclass(frozen=True)
class Heat:
    """Shares as a map.

    Attributes:
        title: What is drawn.
        rows: Names on the left.
        columns: Names on top.
        values: In [0, 1]; None where nothing is known. Rows times columns.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Bars:
    """Amounts side by side.

    Attributes:
        title: What is drawn.
        names: Of the bars.
        amounts: Not negative.
        labels: The amounts in words.
        keys: Colours.
    """

    title: str
    names: Sequence[str]
    amounts: Sequence[float]
    labels: Sequence[str]
    keys: Sequence[int]


Chart = Lines | Stack | Heat | Bars


@dataclass(frozen=True)
class Figure:
    """Charts that belong together.

    Attributes:
        name: Of its file and of its place on the page.
        title: What it shows.
        caption: How to read it.
        charts: None where the records say nothing of it; then ``missing`` says why.
        legend: Names with their colours, once for all charts.
        missing: What is not recorded.
    """

    name: str
    title: str
    caption: str
    charts: Sequence[Chart]
    legend: Sequence[tuple[str, int]] = ()
    missing: str = field(default="Nothing of it is recorded yet.")
