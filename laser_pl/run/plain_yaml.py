"""YAML that somebody else wrote: of a bounded size, however often a part of it is repeated by an alias."""

from __future__ import annotations

from typing import Any

import yaml

MOST_NODES = 200_000
"""Written out; a configuration has some hundred."""
MOST_LEVELS = 100

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML came with it


def load_yaml(text: str) -> Any:
    r"""What a text holds, as plain values.

    Raises:
        yaml.YAMLError: If it is no YAML, or more than ``MOST_NODES`` long once its aliases are written out.
        RecursionError: If it is nested too deeply.
        ValueError: If it holds an impossible date or number.

    >>> load_yaml("a: &x [1, 2]\nb: *x")
    {'a': [1, 2], 'b': [1, 2]}
    """
    _refuse_endless(text)
    return yaml.load(text, Loader=_Loader)


def _refuse_endless(text: str) -> None:
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchor and nodes so far of each collection around
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        size, anchor = 0, getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((anchor, 1))
            if len(open_) > MOST_LEVELS:
                raise RecursionError("nested too deeply")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == around for around, _ in open_):
                raise yaml.YAMLError(f"the alias *{anchor} stands in what it repeats")
            size, anchor = sizes.get(anchor or "", 1), None
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
        if anchor is not None:
            sizes[anchor] = size
        if open_:
            open_[-1] = open_[-1][0], open_[-1][1] + size
        total = max(total, size, open_[-1][1] if open_ else 0)
        if total > MOST_NODES:
            raise yaml.YAMLError(f"it has more than {MOST_NODES:,} values, written out")
