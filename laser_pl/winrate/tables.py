"""Win rates on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from laser_pl.messages.terminal import as_markup
from laser_pl.report.markdown import safe, table
from laser_pl.winrate.rates import RESAMPLES, Interval, Rate

HEADINGS = (
    "category",
    "prompts",
    "win rate, %",
    "length-controlled, %",
    "mean length",
    "won, equal, lost",
    "no opinion",
)
_ON_TERMINAL = 5
"""Of these columns the first so many, for which 80 characters are enough."""


@dataclass(frozen=True)
class WinRates:
    """One side against another.

    Attributes:
        ours: Name of the first side.
        theirs: Name of the second.
        judge: Whose opinions they are.
        responses: Of what kind the responses are.
        seed: Root of the bootstrap.
        rates: By category, and all comparisons last.
    """

    ours: str
    theirs: str
    judge: str
    responses: str
    seed: int
    rates: Mapping[str, Rate]


def caption(found: WinRates) -> str:
    """What the figures are."""
    missing = list(found.rates.values())[-1].missing
    text = (
        f"Win rate of {found.ours} against {found.theirs}, {found.responses}, by {found.judge}: the share of"
        " comparisons in which the first side's response gets the higher score; equal ones count half. In brackets"
        f" 95 % intervals, percentiles of a bootstrap over prompts ({RESAMPLES} resamples, seed {found.seed}), or"
        " Clopper and Pearson's where one side won everything."
        " Length-controlled: what the rate would be at equal lengths, by logistic regression (Dubois et al. 2024, arXiv"
        " 2404.04475). Lengths in characters."
    )
    return text + (f" The judge had no opinion on {missing} comparisons, which are left out." if missing else "")


def cells(category: str, rate: Rate) -> list[str]:
    """A row of the table."""
    return [
        category,
        str(rate.prompts),
        _with_interval(rate.rate, rate.interval),
        _with_interval(rate.controlled, rate.controlled_interval),
        "{:.4g}, {:.4g}".format(*rate.lengths),
        f"{rate.wins}, {rate.ties}, {rate.losses}",
        str(rate.missing),
    ]


def print_win_rates(found: WinRates, console: Console | None = None) -> None:
    """The table and what it says."""
    console = console or Console(highlight=False)
    shown = Table()
    for number, heading in enumerate(HEADINGS[:_ON_TERMINAL]):
        shown.add_column(heading, justify="left" if number == 0 else "right")
    for number, (category, rate) in enumerate(found.rates.items()):
        if number == len(found.rates) - 1:
            shown.add_section()
        shown.add_row(*map(as_markup, cells(category, rate)[:_ON_TERMINAL]))
    console.print(shown)
    console.print(as_markup(caption(found)), soft_wrap=True)


def markdown(found: WinRates) -> str:
    """The same as a page."""
    rows = [cells(category, rate) for category, rate in found.rates.items()]
    return "\n".join(["# Win rate", "", safe(caption(found)), "", *table(HEADINGS, rows), ""])


def as_json(found: WinRates) -> dict[str, Any]:
    """All of it; null is what is unknown."""
    rates = {category: _flat(rate) for category, rate in found.rates.items()}
    return {**asdict(found), "resamples": RESAMPLES, "rates": rates}


def _flat(rate: Rate) -> dict[str, float | int | None]:
    values: dict[str, float | int] = {
        "prompts": rate.prompts,
        "wins": rate.wins,
        "ties": rate.ties,
        "losses": rate.losses,
        "missing": rate.missing,
        "win_rate": rate.rate,
        "low": rate.interval[0],
        "high": rate.interval[1],
        "controlled": rate.controlled,
        "controlled_low": rate.controlled_interval[0],
        "controlled_high": rate.controlled_interval[1],
        "length": rate.lengths[0],
        "length_of_other": rate.lengths[1],
    }
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _with_interval(value: float, interval: Interval) -> str:
    if math.isnan(value):
        return ""
    shown = [f"{100 * number:.1f}" for number in (value, *interval) if not math.isnan(number)]
    return shown[0] if len(shown) == 1 else f"{shown[0]} [{shown[1]}, {shown[2]}]"
