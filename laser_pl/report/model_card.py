"""The card of a run's adapter: what it is, where it comes from, how it did. Written in the hub's format."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from laser_pl.report.markdown import safe, table
from laser_pl.report.records import RunRecords
from laser_pl.report.text import visible
from laser_pl.report.warnings import warnings_of

SHOWN_SETTINGS = ("seed_everything", "model", "data", "selection", "optimizer", "lr_scheduler")
"""Sections of the configuration that say how it was trained; the others say where, and who was informed."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def model_card(records: RunRecords) -> str:
    """The card of a finished run, as Markdown behind a head in YAML. All that comes from its records is escaped.

    The licence is the user's to give: the head has none.
    """
    config, summary = records.config, records.summary or {}
    base = str(_at(config, "model", "weights", "name"))
    settings = visible(
        yaml.safe_dump({name: config[name] for name in SHOWN_SETTINGS if name in config}, sort_keys=False)
    )
    card = ModelCard.from_template(
        _head(records, base),
        template_str=(files("laser_pl.report") / "templates" / "model_card.md").read_text(encoding="utf-8"),
        name=safe(records.folder.path.resolve().name),
        about=_about(records, base),
        base=json.dumps(base),
        template=_class(_at(config, "data", "template")),
        loss=_loss(records),
        results=_results(summary),
        judges="" if records.supervised else _judges(records),
        cautions=[safe(caution.what) for caution in warnings_of(records)],
        versions=_lines(("package", "version"), [[name, str(v)] for name, v in _table(summary, "versions").items()]),
        iterations=safe(str(summary.get("iterations"))),
        steps=safe(str(summary.get("steps"))),
        config=settings.rstrip(),
        fence="`" * max(3, 1 + max(map(len, re.findall("`+", settings + base)), default=0)),
    )
    return f"{card}\n"


def _head(records: RunRecords, base: str) -> ModelCardData:
    """What the hub reads: where the adapter comes from, how to find it, and its accuracy."""
    found, objective = _measured(records), records.objective
    how = "sft" if records.supervised else _class(objective).lower() if objective else "dpo"
    return ModelCardData(
        base_model=base if is_hub_name(base) else None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=[how, "laser_pl", "lora", *([] if records.supervised else ["reward-model-selection"])],
        model_name=_told(records.folder.path.resolve().name) if found else None,
        eval_results=found or None,
    )


def _measured(records: RunRecords) -> list[EvalResult]:
    """Test accuracy after training, of each category and on average, for the hub's tables."""
    after = _table(_table(records.summary or {}, "accuracy"), "after")
    tested = _at(records.config, "data", "test")
    path = str(tested.get("path") if isinstance(tested, Mapping) else tested or "a part of the training data")

    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=path if tested is not None and is_hub_name(path) else "file",
            dataset_name=_told(Path(path).name),
            dataset_config=None if name == "average" else _told(str(name)),
            metric_type="accuracy",
            metric_name="accuracy of sampled responses",
            metric_value=float(value),
        )
        for name, value in after.items()
        if isinstance(value, (int, float))
    ]


def _told(text: str) -> str:
    """Somebody else's text in the head, which may be shown as it is."""
    return html.escape(visible(text), quote=False)


def is_hub_name(name: str) -> bool:
    """Whether weights are named as on the hub, and no folder of that name is there."""
    return _HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def _about(records: RunRecords, base: str) -> str:
    version = safe(str(_table(records.summary or {}, "versions").get("laser_pl", "")))
    where = safe(base) if is_hub_name(base) else f"{safe(base)} (a folder of whoever trained it)"
    made = f"A LoRA adapter for {where}, made with laser\\_pl {version}."
    if records.supervised:
        return f"{made} It was trained on written responses; no reward model judged."
    how = f"{safe(records.bandit)} chose which of {len(records.arms)} reward models ranks the sampled responses"
    if not records.trains:
        return f"{made} The policy was not trained: {how}, and only that was learned."
    loss = _class(records.objective) if records.objective else "Dpo"
    method = "iterative DPO" if loss == "Dpo" else f"the objective {loss}"
    return f"{made} It was trained by {method}: {how}, as in LASeR (arXiv 2410.01735)."


def _loss(records: RunRecords) -> str:
    """What was minimised; empty where nothing was."""
    objective, model = records.objective, _table(records.config, "model")
    if records.supervised:
        own = _class(objective) != "Supervised"
        told = _described(objective) if own else "negative log-likelihood of the written responses, per token"
        return f"Loss on the written responses: {told}." if own else f"Loss: {told}."
    if not records.trains:
        return ""
    if objective:
        return f"Loss: {_described(objective)}."
    beta, weight = safe(str(model.get("beta"))), safe(str(model.get("nll_weight")))
    return (
        f"Loss: DPO with beta {beta}, and {weight} times the chosen response's negative log-likelihood per token; the"
        " reference is the policy at the iteration's start."
    )


def _described(part: Mapping[str, Any]) -> str:
    """A class with those settings that are plain."""
    settings = {
        name: value for name, value in _table(part, "init_args").items() if isinstance(value, str | int | float)
    }
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    return _class(part) + (f" with {safe(listed)}" if listed else "")


def _results(summary: Mapping[str, Any]) -> str:
    before, after = (_table(_table(summary, "accuracy"), when) for when in ("before", "after"))
    names = [*(name for name in after if name != "average"), *(["average"] if "average" in after else [])]
    rows = [[name, _number(before.get(name)), _number(after.get(name))] for name in names]
    return _lines(("category", "before", "after"), rows)


def _judges(records: RunRecords) -> str:
    arms = records.arms
    rows = [[category, *(f"{own.get(arm, 0.0):.0%}" for arm in arms)] for category, own in records.shares.items()]
    return _lines(("category", *arms), rows)


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; nothing where it would have no rows."""
    return "\n".join(table(heads, rows)) if rows else ""


def _class(part: Any) -> str:
    return safe(str(_table({"": part}, "").get("class_path", "")).rpartition(".")[2])


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else ""


def _at(config: Mapping[str, Any], *names: str) -> Any:
    found: Any = config
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return dict(found) if isinstance(found, Mapping) else {}
