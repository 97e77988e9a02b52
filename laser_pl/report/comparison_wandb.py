"""A comparison as a run in Weights & Biases: its table, its curves and its page, for those whose runs lie there."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import wandb

from laser_pl.errors import ConfigurationError
from laser_pl.report.charts import Figure, Lines
from laser_pl.report.comparison import Row
from laser_pl.run.loggers import go_offline_without_key

COLUMNS = ("strategy", "seeds", "category", "accuracy", "half_width", "difference", "p", "seconds", "forwards")


def log_comparison(
    project: str, folder: Path, rows: Sequence[Row], curves: Figure, page: str, runs: Mapping[str, Sequence[str]]
) -> str:
    """Log one run of the job type ``comparison``; without a key it is written to disk.

    It holds the table ``comparison``, a chart ``curves/NAME`` for each category and for the average, and the page as
    ``comparison_page``. Bands are on the page alone: a series of lines has none there.

    Args:
        project: The project's name.
        folder: Where W&B's own files are written, in ``wandb/``.
        rows: A row for each strategy.
        curves: Validation accuracy over iterations, as ``curves_figure`` makes it.
        page: ``comparison.html``.
        runs: Names of each strategy's runs, which are kept as the run's configuration.

    Returns:
        Where it can be seen, or the folder that ``wandb sync`` uploads.

    Raises:
        ConfigurationError: If W&B does not take it.
    """
    go_offline_without_key()
    charts = [chart for chart in curves.charts if isinstance(chart, Lines)]
    try:
        with wandb.init(
            project=project, job_type="comparison", dir=str(folder), config={"strategies": dict(runs)}
        ) as run:
            drawn = {  # here, since older clients draw for a run alone
                key: wandb.plot.line_series(*_lines(chart, curves), title=chart.title, xname=chart.x)
                for key, chart in zip(_keys(chart.title for chart in charts), charts, strict=True)
            }
            table = wandb.Table(columns=list(COLUMNS), data=table_rows(rows))
            run.log({"comparison": table, **drawn, "comparison_page": wandb.Html(io.StringIO(page), inject=False)})
            return str(run.url or Path(run.dir).parent)
    except wandb.Error as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ConfigurationError(
            f"W&B takes no run of the project {project!r} of --wandb: {why}. With WANDB_MODE=offline the run is written"
            " to disk, and 'wandb sync' uploads it later."
        ) from error


def table_rows(rows: Sequence[Row]) -> list[list[str | int | float | None]]:
    """``COLUMNS`` for each strategy and category, as ``comparison.csv`` has them; None where nothing is known."""
    return [
        [row.name, len(row.seeds), category,
         *map(_known, (mean, half, row.difference, row.p, row.seconds, row.forwards))]
        for row in rows
        for category, (mean, half) in row.accuracy.items()
    ]  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _keys(titles: Iterable[str]) -> list[str]:
    """What charts are logged as. W&B makes files' names of it, and a category may be called anything."""
    found: list[str] = []
    for title in titles:
        key = f"curves/{re.sub(r'[^0-9A-Za-z_-]+', '_', title)}"
        found.append(key if key not in found else f"{key}_{len(found)}")
    return found


def _lines(chart: Lines, figure: Figure) -> tuple[list[list[float]], list[list[float]], list[str]]:
    """The x, the y and the name of every line, bands aside."""
    names = {key: name for name, key in figure.legend}
    lines = [one for one in chart.series if one.kind == "line"]
    xs, ys = ([[point[axis] for point in one.points] for one in lines] for axis in (0, 1))
    return xs, ys, [names[one.key] for one in lines]
