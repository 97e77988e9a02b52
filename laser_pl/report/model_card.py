"""The card of a run's adapter: what it is, where it comes from, how it did. Written in the hub's format."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from laser_pl.report.markdown import safe, table
from laser_pl.report.records import RunRecords
from laser_pl.report.text import visible
from laser_pl.report.warnings import warnings_of

OURS = "laser_pl"
"""The tag by which a card of ours is told from PEFT's."""
SHOWN_SETTINGS = ("seed_everything", "model", "data", "selection", "optimizer", "lr_scheduler")
"""Sections of the configuration that say how it was trained; the others say where, and who was told."""

_LASER = """\
@article{laser2024,
  title   = {{LASeR}: Learning to Adaptively Select Reward Models with Multi-Armed Bandits},
  author  = {Nguyen, Duy and Prasad, Archiki and Stengel-Eskin, Elias and Bansal, Mohit},
  journal = {arXiv preprint arXiv:2410.01735},
  year    = {2024}
}"""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def model_card(records: RunRecords) -> str:
    """The card of a finished run, as Markdown behind a head in YAML. All that comes from its records is escaped.

    The licence is the user's to give: the head has none.
    """
    config, summary = records.config, records.summary or {}
    base = str(_at(config, "model", "weights", "name"))
    parts = [
        f"---\n{_head(records, base)}\n---",
        f"# {safe(records.folder.path.resolve().name)}",
        _about(records, base),
        "## Use",
        fenced(_USE.format(base=json.dumps(base)), "python"),
        f"Prompts are rendered by {_class(_at(config, 'data', 'template'))} first.",
        "## Results",
        *_results(summary),
        "## Training",
        "\n".join(f"- {line}" for line in _training(records)),
        *([] if records.supervised else ["## Who judged", *_judges(records)]),
        *_cautions(records),
        "## Versions",
        "\n".join(table(("package", "version"), [[name, str(v)] for name, v in _table(summary, "versions").items()])),
        "## Configuration",
        fenced(visible(yaml.safe_dump({k: config[k] for k in SHOWN_SETTINGS if k in config}, sort_keys=False)), "yaml"),
        "## Citation",
        fenced(_LASER, "bibtex"),
    ]
    return "\n\n".join(parts) + "\n"


_USE = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {base}
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), "THIS_ADAPTER")  # its folder or hub name
model = model.merge_and_unload()  # for a model without adapter"""


def is_ours(card: str) -> bool:
    """Whether a card was written here, and not by PEFT, whose card is a form to fill in."""
    return f"- {OURS}\n" in card.partition("\n---\n")[0] + "\n"


def fenced(text: str, language: str) -> str:
    r"""Text as it is, behind more backticks than it holds itself.

    >>> fenced("a ``` b", "yaml")
    '````yaml\na ``` b\n````'
    """
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _head(records: RunRecords, base: str) -> str:
    """What the hub reads: where the adapter comes from, how to find it, and its accuracy."""
    found, objective = _measured(records), records.objective
    how = "sft" if records.supervised else _class(objective).lower() if objective else "dpo"
    data = ModelCardData(
        base_model=base if is_hub_name(base) else None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=[how, OURS, "lora", *([] if records.supervised else ["reward-model-selection"])],
        model_name=_told(records.folder.path.resolve().name) if found else None,
        eval_results=found or None,
    )
    return str(data.to_yaml())


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
    return f"{made} It was trained by iterative DPO: {how}, as in LASeR (arXiv 2410.01735)."


def _results(summary: Mapping[str, Any]) -> list[str]:
    before, after = (_table(_table(summary, "accuracy"), when) for when in ("before", "after"))
    if not after:
        return ["No accuracy was measured: no test prompt had an answer."]
    names = [*(name for name in after if name != "average"), *(["average"] if "average" in after else [])]
    rows = [[name, _number(before.get(name)), _number(after.get(name))] for name in names]
    return ["Test accuracy of sampled responses, before and after training.",
            "\n".join(table(("category", "before", "after"), rows))]  # fmt: skip


def _training(records: RunRecords) -> list[str]:
    config, summary = records.config, records.summary or {}
    data, model, selection = (_table(config, name) for name in ("data", "model", "selection"))
    rollouts, lora = _table(data, "rollouts"), _table(model, "lora")

    def told(values: Mapping[str, Any], name: str) -> str:
        return safe(str(values.get(name)))

    per_iteration = data.get("prompts_per_iteration")
    models = [f"{safe(str(name))} ({_described(one)})" for name, one in _table(selection, "reward_models").items()]
    start = lora.get("start")
    steps = (
        f"{told(summary, 'iterations')} iterations of {'all' if per_iteration is None else safe(str(per_iteration))}"
        f" prompts, {told(summary, 'steps')} steps of {told(data, 'batch_size')}"
    )
    adapter = (
        f"LoRA of rank {told(lora, 'rank')}, alpha {told(lora, 'alpha')}, dropout {told(lora, 'dropout')}, on"
        f" {safe(_listed(lora.get('targets')))}{'' if start is None else f'; training began from {safe(str(start))}'}."
    )
    objective = records.objective
    loss = (
        f"Loss: {_described(objective)}."
        if objective
        else f"Loss: DPO with beta {told(model, 'beta')}, and {told(model, 'nll_weight')} times the chosen response's"
        " negative log-likelihood per token; the reference is the policy at the iteration's start."
    )
    paired = any(decision.get("pairs") is not None for decision in records.decisions)
    written = [
        f"{steps}.",
        "Loss: negative log-likelihood of the written responses, per token."
        if _class(objective) == "Supervised"
        else f"Loss on the written responses: {_described(objective)}.",
        adapter,
    ]
    sampled = [
        f"{steps}; {told(rollouts, 'n')} responses each at temperature {told(rollouts, 'temperature')},"
        f" {told(rollouts, 'max_new_tokens')} tokens at most.",
        *([loss] if records.trains else []),
        adapter,
        f"Reward models: {'; '.join(models)}.",
        f"Selection: {_described(selection.get('bandit'))}, one choice for each"
        f" {safe(str(selection.get('granularity')))}, learning from the signal {_described(selection.get('signal'))} on"
        f" the scale {_described(selection.get('scale'))}"
        + (f"; pairs by {_described(selection.get('pairs'))}." if paired else "."),
    ]  # fmt: skip
    return [
        f"Data: {_source(data.get('train'))}; tested on {_source(data.get('test'))}.",
        *(written if records.supervised else sampled),
        f"Seed {safe(str(config.get('seed_everything')))}.",
    ]


def _judges(records: RunRecords) -> list[str]:
    arms = records.arms
    rows = [[category, *(f"{own.get(arm, 0.0):.0%}" for arm in arms)] for category, own in records.shares.items()]
    if not rows:
        return ["Nothing was judged."]
    return ["Share of each category's prompts that each reward model judged.",
            "\n".join(table(("category", *arms), rows))]  # fmt: skip


def _cautions(records: RunRecords) -> list[str]:
    found = [f"- {safe(caution.what)}" for caution in warnings_of(records)]
    return ["## Worth knowing", "\n".join(found)] if found else []


def _described(part: Any) -> str:
    """A class with those settings that are plain, or whose weights have a name."""
    if not isinstance(part, Mapping):
        return safe(str(part))
    given = _table(part, "init_args")
    settings = {name: value for name, value in given.items() if isinstance(value, (str, int, float)) and value != ""}
    name = _table(given, "weights").get("name")
    if name is not None:
        return f"{_class(part)}, {safe(str(name))}"
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    return _class(part) + (f" with {safe(listed)}" if listed else "")


def _class(part: Any) -> str:
    return safe(str(_table({"": part}, "").get("class_path", "")).rpartition(".")[2])


def _source(table_: Any) -> str:
    if table_ is None:
        return "a part of the training data that was kept out"
    if not isinstance(table_, Mapping):
        return safe(str(table_))
    return safe(" ".join(str(table_[name]) for name in ("path", "subset", "split") if table_.get(name) is not None))


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


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
