"""A comparison on the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from laser_pl.messages.percentages import in_per_cent
from laser_pl.messages.terminal import as_markup
from laser_pl.report.comparison import Row, categories
from laser_pl.report.markdown import cell, safe, table
from laser_pl.report.statistics import interval


def caption(rows: Sequence[Row], baseline: str) -> str:
    """What the figures are."""
    text = (
        "Test accuracy of sampled responses: mean over seeds and 95 % interval by Student's t. Differences are those of"
        f" the average from {baseline}'s, paired by seed, with the p of a two-sided sign-flip permutation test, which"
        " cannot fall below 2 / 2^seeds. Seconds and reward-model forwards are multiples of"
        f" {baseline}'s."
    )
    others = [row for row in rows if row.name != baseline]
    most = max(len(row.seeds) for row in rows if row.name == baseline)
    fewer = [row for row in others if 0 < row.paired < max(most, len(row.seeds))]
    none = [row for row in others if row.paired == 0 and row.accuracy]
    if fewer:
        text += f" Paired over fewer seeds than the means: {', '.join(f'{r.name} ({r.paired})' for r in fewer)}."
    if none:
        text += f" No seed in common with {baseline}, hence not compared: {', '.join(row.name for row in none)}."
    return text


def cells(row: Row, columns: Sequence[str]) -> list[str]:
    """A row's cells: name, seeds, accuracies, difference, p, seconds, forwards."""
    figures = [interval(*row.accuracy[name]) if name in row.accuracy else "" for name in columns]
    p = "" if math.isnan(row.p) else f"{row.p:.3f}"
    difference = "" if math.isnan(row.difference) else f"{row.difference:+.3f}"
    return [row.name, str(len(row.seeds)), *figures, difference, p, _times(row.seconds), _times(row.forwards)]


def headings(columns: Sequence[str], baseline: str) -> list[str]:
    """Of those cells."""
    return ["strategy", "seeds", *columns, f"minus {baseline}", "p", "seconds", "forwards"]


def shares(row: Row) -> list[tuple[str, str]]:
    """Each category with the arms that judged it, most first."""
    return [(category, ", ".join(in_per_cent(arms))) for category, arms in row.shares.items()]


def print_comparison(rows: Sequence[Row], baseline: str, console: Console | None = None) -> None:
    """The averages, and what lies behind them by category."""
    console = console or Console(highlight=False)
    columns = [name for name in categories(list(rows)) if name == "average"]
    averages = Table()
    for number, heading in enumerate(["strategy", "seeds", *columns, "difference", "p", "seconds", "forwards"]):
        averages.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        averages.add_row(*map(as_markup, cells(row, columns)))
    console.print(averages)
    details = Table("strategy", "category", "accuracy", "scored by")
    for row in rows:
        details.add_section()
        judges = dict(shares(row))
        for category in sorted({*judges, *row.accuracy} - {"average"}):
            accuracy = interval(*row.accuracy[category]) if category in row.accuracy else ""
            details.add_row(*map(as_markup, (row.name, category, accuracy, judges.get(category, ""))))
    console.print(details)
    console.print(as_markup(caption(rows, baseline)), soft_wrap=True)


def markdown(rows: Sequence[Row], baseline: str) -> str:
    """The same as a page."""
    columns = categories(list(rows))
    lines = ["# Comparison", "", safe(caption(rows, baseline)), ""]
    lines += table(headings(columns, baseline), [cells(row, columns) for row in rows])
    judged = [[row.name, category, text] for row in rows for category, text in shares(row)]
    lines += ["", *table(["strategy", "category", "scored by"], judged), ""]
    return "\n".join(lines)


def tidy_csv(rows: Sequence[Row]) -> str:
    """A line for each strategy and category; what concerns the whole strategy is repeated."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["strategy", "seeds", "category", "accuracy", "half_width", "difference", "p", "seconds", "forwards"]
    )
    for row in rows:
        rest = [_plain(value) for value in (row.difference, row.p, row.seconds, row.forwards)]
        for category, (mean, half) in row.accuracy.items() or [("", (math.nan, math.nan))]:
            writer.writerow([cell(row.name), len(row.seeds), cell(category), _plain(mean), _plain(half), *rest])
    return file.getvalue()


def _times(ratio: float) -> str:
    return "" if math.isnan(ratio) else f"{ratio:.2f}x"


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
