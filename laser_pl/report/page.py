"""``report.html``: one file that needs nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from laser_pl.report.charts import PALETTE
from laser_pl.report.records import RunRecords
from laser_pl.report.run_figures import figures
from laser_pl.report.sample import sample_of
from laser_pl.report.svg import draw
from laser_pl.report.text import line, visible
from laser_pl.report.warnings import warnings_of


def page(records: RunRecords) -> str:
    """A run as HTML. All that comes from its records is escaped."""
    environment = Environment(
        loader=PackageLoader("laser_pl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"line": line, "draw": draw}
    script = _asset(environment, "report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        style=_asset(environment, "report.css"),
        script=script,
        digest=digest,
        palette=PALETTE,
        run=records.folder.path.resolve().name,
        totals=_totals(records.summary or {}),
        missing=_table_of((records.summary or {}).get("labels_missing")),
        versions=_table_of((records.summary or {}).get("versions")),
        progress=_progress(records),
        accuracy=_accuracy(records),
        warnings=warnings_of(records),
        left_out=records.left_out,
        figures=figures(records),
        sample=sample_of(records),
        config=visible(records.folder.config.read_text(encoding="utf-8")),
    )


def _asset(environment: Environment, name: str) -> Markup:
    """A file of ours that belongs into the page as it is."""
    return Markup(environment.get_template(name).render())


def _totals(summary: dict[str, Any]) -> dict[str, float]:
    """Numbers of a finished run, as far as they are there."""
    forwards = _table_of(summary.get("reward_model_forwards"))
    found = {
        "seconds": _table_of(summary.get("seconds")).get("total"),
        "forwards": sum(forwards.values()) if forwards else None,
        "avoided": summary.get("reward_model_forwards_avoided"),
        "without_pairs": summary.get("steps_without_pairs"),
    }
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}


def _table_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _progress(records: RunRecords) -> dict[str, Any]:
    last = records.decisions[-1] if records.decisions else None
    return {
        "finished": records.summary is not None,
        "iteration": 0 if last is None else last["iteration"] + 1,
        "iterations": records.iterations,
        "steps": len({line["step"] for line in records.decisions}),
        "bandit": records.bandit,
        "arms": len(records.arms),
        "last": _last_written(records),
    }


def _last_written(records: RunRecords) -> str:
    paths: list[Path] = [records.folder.selection, records.folder.metrics, records.folder.summary]
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    if not times:
        return "nothing written yet"
    return datetime.fromtimestamp(max(times), timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _accuracy(records: RunRecords) -> list[dict[str, Any]]:
    """A row for each category: sampled and greedy test accuracy, before and after."""
    rows = []
    for name in records.metric_names("test/accuracy/sampled/"):
        row: dict[str, Any] = {"category": name}
        for kind in ("sampled", "greedy"):
            values = [value for *_, value in records.metric(f"test/accuracy/{kind}/{name}")]
            row[f"{kind}_before"] = values[0] if values else None
            row[f"{kind}_after"] = values[-1] if len(values) > 1 else None
        rows.append(row)
    return rows
