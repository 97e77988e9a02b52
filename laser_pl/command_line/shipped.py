"""Configurations that come with the package: presets, examples and the paper's settings, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps
from laser_pl.run.plain_yaml import load_yaml

PREFIX = "preset:"
"""Before a name, where a configuration's path is expected."""
FOLDER = Path(__file__).parents[1] / "configs"
"""In a checkout a link to ``experiments/``; a wheel holds the configurations alone."""
KINDS = {
    "presets": "What the bandit learns from, over a configuration of your own",
    "rewards": "Reward models, an example of each kind",
    "objectives": "What is minimised",
    "paper": "The paper's settings",
    "first": "First experiments, over quickstart",
    "engines": "Who samples",
    "loggers": "Where metrics go as well",
    "scale": "Several processes",
    "": "Whole worlds, whose models and data lie in a checkout",
}
"""Folders of configurations, and what they hold. Those of ``presets`` and of no folder go by their bare names."""


def shipped() -> dict[str, Path]:
    """All of them by name, kind by kind."""
    return {
        path.stem if kind in ("", "presets") else f"{kind}/{path.stem}": path
        for kind in KINDS
        for path in sorted((FOLDER / kind).glob("*.yaml"))
    }


def kind_of(path: Path) -> str:
    """The folder that one of them lies in, a key of ``KINDS``."""
    return path.parent.relative_to(FOLDER).as_posix().removeprefix(".")


def path_of(name: str) -> Path:
    """Where one of them lies.

    Args:
        name: As ``shipped`` has it, perhaps behind ``preset:``.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    known, name = shipped(), name.removeprefix(PREFIX)
    if name not in known:
        last = {each.rpartition("/")[2]: each for each in reversed(known)}  # `judges` without its folder
        meant = last.get(name) or closest(name, known) or last.get(closest(name, last) or "")
        raise ConfigurationError(f"There is no preset '{name}'.{perhaps(meant, 'See python -m laser_pl config ls.')}")
    return known[name]


def purpose_of(path: Path) -> str:
    """The first sentence of a configuration's opening comment."""
    comment = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8"))
    assert comment is not None
    text = " ".join(line.lstrip("# ") for line in comment[0].splitlines())
    return re.split(r"(?<=[.?!])\s+(?=[A-Z])", text, maxsplit=1)[0]


def lacks(path: Path) -> list[str]:
    """Models and data that a configuration names, and that lie neither here nor in the wheel, as it writes them.

    Hub names are among them: they are fetched when they are first used.
    """
    with path.open(encoding="utf-8") as file:
        named = dict.fromkeys(_named(load_yaml(file.read())))
    return [name for name in named if not Path(name).exists()]


def _named(config: Any, above: str = "") -> Iterator[str]:
    """The paths and names of weights and data."""
    if isinstance(config, dict):
        for key, value in config.items():
            if isinstance(value, str) and (value.startswith("experiments/") or (above, key) in _NAMES):
                yield value
            yield from _named(value, key)
    elif isinstance(config, list):
        for value in config:
            yield from _named(value, above)


_NAMES = {(above, "name") for above in ("weights", "reference")} | {
    (split, "path") for split in ("train", "validation", "test")
}
