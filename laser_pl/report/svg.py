"""Charts as inline SVG. Colours are variables of the page, so that light and dark need no second picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import singledispatch
from itertools import groupby

from markupsafe import Markup

from laser_pl.report.charts import DASHES, PALETTE, Bars, Chart, Heat, Lines, Series, Stack
from laser_pl.report.series import Point, unbroken
from laser_pl.report.text import line

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 36
LETTER = 7.6
"""Room for a letter, at the size that a phone gets."""

RewardNormalizer = Callable[[float], float]


@singledispatch
def draw(chart: Chart) -> Markup:
    """A chart as an ``<svg>`` element; names in it are escaped."""
    raise TypeError(f"nobody draws {type(chart).__name__}")


@draw.register
def _(chart: Lines) -> Markup:
    x, y = _across(*chart.x_range), _up(*chart.y_range)
    return _svg(chart.title, HEIGHT, [
        _axes(chart.x, x, y, _ticks(*chart.x_range, finest=1), _ticks(*chart.y_range), chart.percent),
        _marks(chart.marks, x, "mark"),
        *(_series(series, x, y, chart.percent) for series in chart.series),
    ])  # fmt: skip


@draw.register
def _(chart: Stack) -> Markup:
    first, last = chart.edges[0], chart.edges[-1]
    x, y = _across(first, last), _up(0.0, 1.0)
    below = [0.0] * (len(chart.edges) - 1)
    parts = []
    for key, (name, shares) in enumerate(zip(chart.names, chart.shares, strict=True)):
        above = [low + share for low, share in zip(below, shares, strict=True)]
        edge = [*_steps(chart.edges, above), *reversed(_steps(chart.edges, below))]
        path = "M" + "L".join(f"{x(a):.1f},{y(b):.1f}" for a, b in edge) + "Z"
        parts.append(_m('<path class="area c{}" d="{}"><title>{}</title></path>', key % len(PALETTE), path, line(name)))
        below = above
    axes = _axes(chart.x, x, y, _ticks(first, last, finest=1), _ticks(0.0, 1.0), True)
    return _svg(chart.title, HEIGHT, [axes, *parts, _marks(chart.marks, x, "gap")])


@draw.register
def _(chart: Heat) -> Markup:
    rows, columns = [line(name, 18) for name in chart.rows], [line(name, 14) for name in chart.columns]
    left = 12 + LETTER * max(map(len, rows), default=0)
    slant = 10 + 0.7 * LETTER * max(map(len, columns), default=0)
    width, height = (WIDTH - left - 30) / max(len(columns), 1), 26
    parts = []
    for c, name in enumerate(columns):
        place = f"translate({left + (c + 0.5) * width:.1f},{slant - 6:.1f}) rotate(-40)"
        parts.append(_m('<text class="label" transform="{}">{}</text>', place, name))
    for r, (name, values) in enumerate(zip(rows, chart.values, strict=True)):
        top = slant + r * height
        parts.append(_m('<text class="label end" x="{:.1f}" y="{:.1f}">{}</text>', left - 6, top + 17, name))
        for c, value in enumerate(values):
            parts.append(_cell(value, left + c * width, top, width, height, f"{name}, {columns[c]}"))
    return _svg(chart.title, slant + len(rows) * height + 4, parts)


@draw.register
def _(chart: Bars) -> Markup:
    names = [line(name, 18) for name in chart.names]
    left, height = 12 + LETTER * max(map(len, names), default=0), 26
    room = WIDTH - left - 8 - LETTER * max(map(len, chart.labels), default=0)
    most = max(chart.amounts, default=0) or 1
    parts = []
    for r, (name, amount, label) in enumerate(zip(names, chart.amounts, chart.labels, strict=True)):
        top, length = r * height + 4, max(1.0, room * amount / most)
        parts.append(_m('<text class="label end" x="{:.1f}" y="{:.1f}">{}</text>', left - 6, top + 15, name))
        parts.append(_m('<rect class="area c{}" x="{:.1f}" y="{}" width="{:.1f}" height="{}" rx="2"/>',
                        chart.keys[r] % len(PALETTE), left, top, length, height - 6))  # fmt: skip
        parts.append(_m('<text class="label" x="{:.1f}" y="{:.1f}">{}</text>', left + length + 6, top + 15, label))
    return _svg(chart.title, len(names) * height + 8, parts)


# -- parts of charts ---------------------------------------------------------------------------------------------------


def _m(template: str, *values: object) -> Markup:
    """Markup with values that are escaped."""
    return Markup(template).format(*values)


def _svg(title: str, height: float, parts: Sequence[Markup]) -> Markup:
    template = '<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>'
    return _m(template, WIDTH, height, line(title), Markup("").join(parts))


def _across(low: float, high: float) -> RewardNormalizer:
    span = (high - low) or 1.0
    return lambda value: LEFT + (value - low) / span * (WIDTH - LEFT - RIGHT)


def _up(low: float, high: float) -> RewardNormalizer:
    span = (high - low) or 1.0
    return lambda value: HEIGHT - BOTTOM - (value - low) / span * (HEIGHT - TOP - BOTTOM)


def _ticks(low: float, high: float, finest: float = 0.0) -> list[float]:
    """Round numbers between two, about five of them, no closer than ``finest``."""
    if not high > low:
        return [low]
    rough = max((high - low) / 5, finest)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * round_ for round_ in (1, 2, 5, 10) if power * round_ >= rough * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else f"{round(value, 10) + 0.0:.4g}"


def _marks(marks: Sequence[float], x: RewardNormalizer, kind: str) -> Markup:
    paths = [_m('<path class="{}" d="M{:.1f},{}V{}"/>', kind, x(mark), TOP, HEIGHT - BOTTOM) for mark in marks]
    return Markup("").join(paths)


def _axes(
    name: str, x: RewardNormalizer, y: RewardNormalizer, xs: Sequence[float], ys: Sequence[float], percent: bool
) -> Markup:
    bottom, parts = HEIGHT - BOTTOM, []
    for value in ys:
        parts.append(_m('<path class="grid" d="M{},{:.1f}H{}"/>', LEFT, y(value), WIDTH - RIGHT))
        parts.append(_m('<text class="tick end" x="{}" y="{:.1f}">{}</text>',
                        LEFT - 6, y(value) + 4, _number(value, percent)))  # fmt: skip
    for value in xs:
        parts.append(_m('<text class="tick middle" x="{:.1f}" y="{}">{}</text>',
                        x(value), bottom + 15, _number(value, False)))  # fmt: skip
    parts.append(_m('<path class="axis" d="M{},{}H{}"/>', LEFT, bottom, WIDTH - RIGHT))
    parts.append(_m('<text class="tick middle" x="{}" y="{}">{}</text>', (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, name))
    return Markup("").join(parts)


def _series(series: Series, x: RewardNormalizer, y: RewardNormalizer, percent: bool) -> Markup:
    color = f"c{series.key % len(PALETTE)}"
    pieces = unbroken(series.points)
    points = [point for piece in pieces for point in piece]
    if series.kind == "rings":
        return Markup("").join(_ring(point, color, series.name, x, y, percent) for point in points)
    parts = []
    for low, high in _bands(series):
        parts.append(_m('<path class="band {}" d="M{}L{}Z"/>', color, _places(low, x, y), _places(high[::-1], x, y)))
    dash = DASHES[series.key // len(PALETTE) % len(DASHES)]
    # A point between gaps is a line of no length, which a round end makes a dot.
    path = "".join(f"M{_places(piece, x, y)}" + ("h0" if len(piece) == 1 else "") for piece in pieces)
    parts.append(_m('<path class="{} {}" d="{}" stroke-dasharray="{}"><title>{}</title></path>',
                    series.kind, color, path, dash or "none", line(series.name)))  # fmt: skip
    if series.kind == "line" and len(series.points) <= 30:
        parts += [_m('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}: {}</title></circle>',
                     color, x(a), y(b), line(series.name), _number(b, percent)) for a, b in points]  # fmt: skip
    return Markup("").join(parts)


def _bands(series: Series) -> list[tuple[list[Point], list[Point]]]:
    """Lower and upper edge of each piece of a series' band."""
    both = zip(series.points, series.upper, strict=False)  # of none where it has no band
    pieces = groupby(both, key=lambda edges: all(math.isfinite(value) for _, value in edges))
    found = [list(piece) for finite, piece in pieces if finite]
    return [([low for low, _ in piece], [high for _, high in piece]) for piece in found]


def _places(points: Sequence[Point], x: RewardNormalizer, y: RewardNormalizer) -> str:
    """As a path has them."""
    return "L".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)


def _ring(point: Point, color: str, name: str, x: RewardNormalizer, y: RewardNormalizer, percent: bool) -> Markup:
    return _m('<circle class="ring {}" cx="{:.1f}" cy="{:.1f}" r="4.5"><title>{}: {}</title></circle>',
              color, x(point[0]), y(point[1]), line(name), _number(point[1], percent))  # fmt: skip


def _steps(edges: Sequence[float], values: Sequence[float]) -> list[Point]:
    """Two points for each bin, so that a share holds from one edge to the next."""
    return [(edge, value) for i, value in enumerate(values) for edge in (edges[i], edges[i + 1])]


def _cell(value: float | None, left: float, top: float, width: float, height: float, what: str) -> Markup:
    if value is None:
        return _m('<rect class="nothing" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}"/>',
                  left, top, width - 2, height - 2)  # fmt: skip
    return _m(
        '<rect class="heat" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" fill-opacity="{:.2f}"><title>{}</title>'
        '</rect><text class="value" x="{:.1f}" y="{:.1f}">{:.0f}</text>',
        left, top, width - 2, height - 2, 0.06 + 0.59 * value, f"{what}: {value:.1%}",  # pale: a number stands on it
        left + width / 2 - 1, top + 17, 100 * value,
    )  # fmt: skip
