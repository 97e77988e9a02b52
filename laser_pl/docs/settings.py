"""A hook of MkDocs: the page of all settings, made from signatures and docstrings."""

from __future__ import annotations

import inspect
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any, get_args, get_type_hints

import docstring_parser
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import laser_pl
from laser_pl.bandits.base import Bandit
from laser_pl.bandits.context import ContextPreparation
from laser_pl.borrowed.jsonargparse import get_all_subclass_paths
from laser_pl.commands.settings import DEFAULTS, add_seed, add_settings
from laser_pl.data.datamodule import PreferenceData
from laser_pl.data.pairs import Pairing
from laser_pl.data.templates import Template
from laser_pl.feedback.normalizers import RewardNormalizer
from laser_pl.feedback.signals import Signal
from laser_pl.generation import RolloutEngine
from laser_pl.metrics.grader import Grader
from laser_pl.objectives import Objective
from laser_pl.policy.policy import Policy
from laser_pl.rewards import Constraint, RewardModel
from laser_pl.selection.selector import Selector

SECTIONS: dict[str, type] = {"model": Policy, "data": PreferenceData, "selection": Selector}
SLOTS: dict[str, type] = {
    "model.objective": Objective,
    "model.engine": RolloutEngine,
    "model.matcher": Grader,
    "data.template": Template,
    "selection.reward_models.NAME": RewardModel,
    "selection.constraints.NAME": Constraint,
    "selection.bandit": Bandit,
    "selection.context": ContextPreparation,
    "selection.signal": Signal,
    "selection.normalizer": RewardNormalizer,
    "selection.pairs": Pairing,
}
"""Settings that name a class, and what they take."""
HEAD = """# All settings

Each setting of `fit`, as configurations and the command line name it: `--data.batch_size 8`. Those of `trainer` are
Lightning's, in its manual. What takes a class is written as
`class_path` and `init_args`, with the class's settings from the second half of this page;
`python -m laser_pl fit --config mine.yaml --print_config` shows a whole configuration.
"""


@dataclass(frozen=True)
class Setting:
    """A row.

    Attributes:
        name: Dotted.
        kind: Its type, as it is annotated.
        default: As YAML has it; empty where it must be given.
        text: What it does.
    """

    name: str
    kind: str
    default: str
    text: str


def page() -> str:
    """The page's Markdown."""
    parts = [HEAD, "## A run\n", table(list(of_run()))]
    for section, cls in SECTIONS.items():
        parts += [f"## `{section}`\n", table(list(settings_of(cls, f"{section}.")))]
    for slot, base in SLOTS.items():
        parts.append(f"## Classes for `{slot}`\n")
        for path, cls in classes_for(base).items():
            first = docstring_parser.parse(inspect.getdoc(cls) or "").short_description or ""
            parts.append(f"### `{path}`\n\n{first}\n")
            parts.append(table(list(settings_of(cls, ""))))
    return "\n".join(parts)


def of_run() -> Iterator[Setting]:
    """What is in no section."""
    parser = LightningArgumentParser()
    add_seed(parser)
    for section in ("model", "data"):
        parser.add_lightning_class_args(SECTIONS[section], section)
    add_settings(parser)
    for action in parser._actions:
        if action.option_strings and "." not in action.dest and action.dest not in {"help", "print_config", *SECTIONS}:
            yield Setting(action.dest, "", shown(action.default), action.help or "")


def settings_of(cls: type, prefix: str, given: Any = None) -> Iterator[Setting]:
    """The settings of a class, and of the dataclasses among them.

    Args:
        cls: The class.
        prefix: Where they are in a configuration.
        given: A dataclass's default, whose values are the defaults then.
    """
    hints = get_type_hints(getattr(cls, "__init__"))  # noqa: B009 - mypy knows no other way
    told: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        told |= {part.arg_name: part.description or "" for part in docstring_parser.parse(one.__doc__ or "").params}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL} or name in {"optimizer", "lr_scheduler"}:
            continue
        inner = [one for one in (hints.get(name), *get_args(hints.get(name))) if is_dataclass(one)]
        default = getattr(given, name) if given is not None else default_of(cls, parameter)
        text = " ".join(told.get(name, "").split())
        ours = DEFAULTS.get(f"{prefix}{name}", default)
        yield Setting(f"{prefix}{name}", str(parameter.annotation), shown(ours), text)
        if inner and isinstance(inner[0], type) and inner[0] not in SLOTS.values():
            yield from settings_of(inner[0], f"{prefix}{name}.", default if isinstance(default, inner[0]) else None)


def default_of(cls: type, parameter: inspect.Parameter) -> Any:
    """What a setting is unless somebody says otherwise; ``NOTHING`` where somebody must."""
    made = {field.name: field.default_factory for field in fields(cls)} if is_dataclass(cls) else {}
    if callable(made.get(parameter.name)):
        return made[parameter.name]()  # type: ignore[operator]
    return NOTHING if parameter.default is parameter.empty else parameter.default


NOTHING = object()


def classes_for(base: type) -> dict[str, type]:
    """The package's own that a slot takes, by the shortest path that a configuration may name each by."""
    for module in pkgutil.walk_packages(laser_pl.__path__, "laser_pl."):
        if module.name.split(".")[1] not in {"docs", "configs", "__main__", "integrations"}:
            import_module(module.name)
    paths = sorted(path for path in get_all_subclass_paths(base) if path.startswith("laser_pl."))
    return {path: pkgutil.resolve_name(path) for path in paths}


def shown(default: Any) -> str:
    """A default as YAML has it; one that is an object by its class, and a dataclass not at all, since it has rows."""
    if default is NOTHING or (is_dataclass(default) and not isinstance(default, type)):
        return ""
    plain = default.as_dict() if isinstance(default, Namespace) else default
    if isinstance(plain, dict) and "class_path" in plain:
        plain = {"class_path": plain["class_path"], **plain.get("init_args", {})}
    try:
        return f"`{json.dumps(plain)}`"
    except TypeError:
        return f"`{type(plain).__name__}`"


def table(settings: list[Setting]) -> str:
    """Rows as Markdown."""
    if not settings:
        return "It has no settings.\n"

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("``", "`")

    lines = ["| setting | type | default | what it does |", "|---|---|---|---|"]
    for one in settings:
        kind = f"`{one.kind}`" if one.kind else ""
        lines.append(f"| `{one.name}` | {cell(kind)} | {cell(one.default)} | {cell(one.text)} |")
    return "\n".join([*lines, ""])


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the page."""
    files.append(File.generated(config, "settings.md", content=page()))
    return files
