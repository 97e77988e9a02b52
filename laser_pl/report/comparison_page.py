"""``comparison.html``: runs side by side, in one file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Sequence

from laser_pl.report.charts import PALETTE
from laser_pl.report.comparison import Row, categories
from laser_pl.report.comparison_figures import Records, comparison_figures
from laser_pl.report.comparison_tables import caption, cells, headings
from laser_pl.report.page import asset, environment


def comparison_page(rows: Sequence[Row], baseline: str, records: Records) -> str:
    """The comparison as HTML. All that comes from runs' records is escaped.

    Args:
        rows: A row for each strategy.
        baseline: The strategy that the others are compared with.
        records: Those of each strategy's runs.
    """
    columns = categories(list(rows))
    return environment().get_template("comparison.html").render(
        style=asset("report.css"),
        palette=PALETTE,
        caption=caption(rows, baseline),
        headings=headings(columns, baseline),
        rows=[cells(row, columns) for row in rows],
        figures=comparison_figures(rows, records),
    )  # fmt: skip
