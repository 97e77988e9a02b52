"""``report.html``: one file that needs nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from laser_pl.report.charts import PALETTE
from laser_pl.report.records import RunRecords
from laser_pl.report.run_figures import figures
from laser_pl.report.sample import sample_of
from laser_pl.report.summary import avoided_in_words
from laser_pl.report.svg import draw
from laser_pl.report.text import line, visible
from laser_pl.report.warnings import warnings_of
from laser_pl.run.files import read_text


def page(records: RunRecords) -> str:
    """A run as HTML. All that comes from its records is escaped."""
    script = asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment()
        .get_template("report.html")
        .render(
            style=asset("report.css"),
            script=script,
            digest=digest,
            palette=PALETTE,
            run=records.folder.path.resolve().name,
            totals=_totals(records),
            missing=_table_of((records.summary or {}).get("labels_missing")),
            versions=_table_of((records.summary or {}).get("versions")),
            progress=_progress(records),
            accuracy=accuracy_rows(records),
            warnings=warnings_of(records),
            left_out=records.left_out,
            figures=figures(records),
            sample=sample_of(records),
            config=visible(read_text(records.folder.config, records.folder.path)),
        )
    )


@cache
def environment() -> Environment:
    """Whose templates are compiled once for all pages of a process, which takes as long as writing one."""
    made = Environment(
        loader=PackageLoader("laser_pl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"line": line, "draw": draw}
    return made


def asset(name: str) -> Markup:
    """A file of ours that belongs into a page as it is."""
    return Markup(environment().get_template(name).render())


def _totals(records: RunRecords) -> dict[str, Any]:
    """Numbers of a run, as far as they are there; most are counted when it ends."""
    summary = records.summary or {}
    forwards, avoided = _table_of(summary.get("reward_model_forwards")), summary.get("reward_model_forwards_avoided")
    found = {
        "steps": summary.get("steps", records.steps),
        "seconds": _table_of(summary.get("seconds")).get("total"),
        "forwards": sum(forwards.values()) if forwards else None,
        "without_pairs": summary.get("steps_without_pairs"),
        "not_finite": summary.get("steps_not_finite"),
    }
    numbers = {name: value for name, value in found.items() if isinstance(value, (int, float))}
    return {**numbers, **({"avoided": avoided_in_words(avoided)} if isinstance(avoided, int) else {})}


def _table_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _progress(records: RunRecords) -> dict[str, Any]:
    return {
        "finished": records.summary is not None,
        "iteration": records.iteration,
        "iterations": records.iterations,
        "judges": "" if records.supervised else f"{_number_of_models(records)}, {records.bandit}",
        "last": _last_written(records),
    }


def _number_of_models(records: RunRecords) -> str:
    count = len(records.arms)
    return f"{count} reward model" + ("" if count == 1 else "s")


def _last_written(records: RunRecords) -> str:
    paths: list[Path] = [records.folder.selection, records.folder.metrics, records.folder.summary]
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    if not times:
        return "nothing written yet"
    return datetime.fromtimestamp(max(times), timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def accuracy_rows(records: RunRecords) -> list[dict[str, Any]]:
    """A row for each category: sampled and greedy test accuracy, before and after.

    What was measured before the first step was measured before, and what was measured last after, if it was later. A
    summary without a before says that this was on other prompts.
    """
    comparable = _table_of((records.summary or {}).get("accuracy")).get("before", ...) is not None
    rows = []
    for name in records.metric_names("test/accuracy/sampled/"):
        row: dict[str, Any] = {"category": name}
        for kind in ("sampled", "greedy"):
            found = records.metric(f"test/accuracy/{kind}/{name}")
            begins = bool(found) and found[0][:2] == (0, 0)
            row[f"{kind}_before"] = found[0][2] if begins and comparable else None
            row[f"{kind}_after"] = found[-1][2] if len(found) > begins else None
        rows.append(row)
    return rows
