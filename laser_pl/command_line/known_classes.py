"""The classes that a setting may name, as far as their modules have been imported."""

from __future__ import annotations

import argparse
import inspect
import sys

from laser_pl.borrowed.jsonargparse import ActionTypeHint, get_all_subclass_paths


def known_classes(action: argparse.Action) -> dict[str, type]:
    """By import path; empty for a setting that takes no class."""
    if not isinstance(action, ActionTypeHint):
        return {}
    found = {path: _imported(path) for path in get_all_subclass_paths(action._typehint, closed_types=False)}
    return {path: one for path, one in found.items() if one is not None}


def own_classes() -> list[str]:
    """Import paths of this package's public classes."""
    return sorted(
        f"{name}.{cls}"
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "laser_pl" and "._" not in name
        for cls, value in vars(module).items()
        if inspect.isclass(value) and value.__module__.startswith("laser_pl") and not cls.startswith("_")
    )


def parameters_of(cls: type) -> list[str]:
    """Names of what a class is made from."""
    try:
        return list(inspect.signature(cls).parameters)
    except ValueError:  # a class that is not written in Python
        return []


def _imported(path: str) -> type | None:
    """The class; None if it has gone from its module, as one that a library made while running."""
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)
