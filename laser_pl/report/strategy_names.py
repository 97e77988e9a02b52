"""What a strategy is called: by its runs' folders, and where these are not enough by its settings."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from os.path import commonprefix
from typing import Any

Setting = tuple[str, ...]
"""Where it stands in a configuration."""

SHOWN = 3
"""So many settings a name has, unless it takes more to distinguish strategies."""
LONGEST = 40
"""Characters of a setting's value; of a longer one the end is shown, in which paths differ."""

_SEED = re.compile(r"(?<!\d[eE])[-_](?:seed[-_]?|s)?(\d+)$")
"""The last number of a folder's name: what ``-0.5``, ``a01`` and ``1e-3`` end with is none."""
_FIRST = ("selection", "model", "data", "optimizer", "lr_scheduler")
"""Sections in which a strategy is looked for first."""


def stems(runs: Sequence[tuple[str, int]]) -> list[str]:
    """Names of runs' folders without the seed behind them.

    A number is a seed if it is that run's, and so for all runs whose names differ in nothing but that number.

    Args:
        runs: Folder and seed of each.

    >>> stems([("x-0", 0), ("x-1", 1), ("y-0.5", 5), ("a01", 1), ("k-1", 1), ("k-2", 1), ("lr_1e-3", 3)])
    ['x', 'x', 'y-0.5', 'a01', 'k-1', 'k-2', 'lr_1e-3']
    """
    parted = [_SEED.search(name) for name, _ in runs]
    heads = [None if found is None else found.string[: found.start()] for found in parted]
    other = {
        head for head, found, (_, seed) in zip(heads, parted, runs, strict=True) if found and int(found[1]) != seed
    }
    return [head if head and head not in other else name for head, (name, _) in zip(heads, runs, strict=True)]


def names(stems: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each strategy, no two alike: its stem, with the settings that differ where others have the same one.

    Args:
        stems: Of each strategy.
        configs: Of each; no two are the same.

    >>> names(["x", "x", "y"], [{"bandit": {"alpha": 1}}, {"bandit": {"alpha": 3}}, {}])
    ['x (bandit.alpha 1)', 'x (bandit.alpha 3)', 'y']
    """
    found = list(stems)
    for stem in dict.fromkeys(stems):
        alike = [place for place, other in enumerate(stems) if other == stem]
        if len(alike) > 1:
            for place, said in zip(alike, _told_apart([configs[place] for place in alike]), strict=True):
                found[place] = f"{stem} ({said})"
    taken: set[str] = set()
    for place, name in enumerate(found):
        numbered = (name if number == 1 else f"{name} ({number})" for number in itertools.count(1))
        found[place] = next(one for one in numbered if one not in taken)
        taken.add(found[place])
    return found


def _told_apart(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between configurations, for each of them."""
    flat = [dict(_settings(config)) for config in configs]
    every = dict.fromkeys(path for one in flat for path in one)
    values = {path: _texts(path, flat) for path in every}
    differing = sorted((path for path in every if len(set(values[path])) > 1), key=_section)
    chosen, parts = [], [""] * len(flat)
    for path in differing:  # those that it takes to distinguish all
        split = [f"{part}\n{value}" for part, value in zip(parts, values[path], strict=True)]
        if len(set(split)) > len(set(parts)):
            parts = split
            chosen.append(path)
    classes = {path[:-1] for path in differing if path[-1] == "class_path"}
    rest = [path for path in differing if path not in chosen and not _lies_in(path, classes)]
    shown = [*chosen, *rest[: max(0, SHOWN - len(chosen))]]
    return [", ".join(f"{_label(path)} {values[path][place]}" for path in shown) for place in range(len(flat))]


def _settings(config: Mapping[str, Any], where: Setting = ()) -> Iterable[tuple[Setting, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _settings(value, (*where, str(key)))
        else:
            yield (*where, str(key)), value


def _section(path: Setting) -> int:
    return _FIRST.index(path[0]) if path[0] in _FIRST else len(_FIRST)


def _lies_in(path: Setting, parts: set[Setting]) -> bool:
    return any(path[:depth] in parts for depth in range(len(path)))


def _label(path: Setting) -> str:
    """The last two parts of a setting's name; of a class the slot that it stands in."""
    told = [part for part in path if part not in ("init_args", "class_path")]
    return told[-1] if path[-1] == "class_path" else ".".join(told[-2:])


def _texts(path: Setting, flat: Sequence[Mapping[Setting, Any]]) -> list[str]:
    """What is said of a setting in each configuration; alike only where it is.

    Of a long value the end is said, or where that is alike in several, what stands where they first differ.
    """
    exact = [json.dumps(one[path], default=str, sort_keys=True) if path in one else "unset" for one in flat]
    plain = [_plain(path, one) for one in flat]
    whole = plain if len(set(plain)) == len(set(exact)) else exact  # true and "true"
    short = [text if len(text) <= LONGEST else f"...{text[-LONGEST:]}" for text in whole]
    if len(set(short)) == len(set(whole)):
        return short
    start = len(commonprefix(whole))
    return [f"...{text[start : start + LONGEST]}..." for text in whole]


def _plain(path: Setting, settings: Mapping[Setting, Any]) -> str:
    if path not in settings:
        return "unset"
    value = settings[path]
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.rpartition(".")[2] if path[-1] == "class_path" else text
