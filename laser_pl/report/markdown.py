"""Markdown and CSV of text that others wrote."""

from __future__ import annotations

import html
from collections.abc import Sequence

from laser_pl.messages.terminal import shown


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; what stands in its cells is escaped."""
    return [
        f"| {' | '.join(map(safe, heads))} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(map(safe, row))} |" for row in rows),
    ]


def cell(text: str) -> str:
    """Text for a CSV file: spreadsheets take what begins like a formula for one, unless it stands behind an apostrophe.

    >>> cell("=HYPERLINK(1)"), cell("sums")
    ("'=HYPERLINK(1)", 'sums')
    """
    text = shown(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def safe(text: str) -> str:
    """Names come from files: no table, no HTML, no link is made of them."""
    text = html.escape(shown(" ".join(text.split())), quote=False)
    text = "".join(f"\\{c}" if c in "\\|`*_[]~$" else c for c in text)
    return text.replace("://", "&#58;//").replace("www.", "www&#46;")  # else a bare address becomes a link
