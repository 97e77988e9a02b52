"""Which settings a continued run has that differ from those it began with."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from laser_pl.run.files import read_text
from laser_pl.run.former_settings import with_new_names
from laser_pl.run.plain_yaml import load_yaml

log = logging.getLogger(__name__)

OF_THE_CALL = {"name", "runs_dir", "resume", "ckpt_path", "config"}
"""What says which run is meant and where it lies, and is no setting of it."""


def tell_of_changes(began: Path, now: str) -> None:
    """Log a warning if a run goes on with other settings, since its results are then those of neither.

    Args:
        began: Its ``config.yaml``.
        now: The configuration that it goes on with, as YAML.
    """
    changes = changes_since(began, now)
    if changes is None:
        log.warning("%s cannot be read, so nobody can say whether the run goes on with the settings it had.", began)
    if changes:
        log.warning(
            "The run goes on with settings other than those it began with, which stay in %s: %s. The optimizer's own"
            " settings are the checkpoint's.",
            began.name,
            "; ".join(changes),
        )


def changes_since(began: Path, now: str) -> list[str] | None:
    """What differs from the settings that a run began with, a phrase each; None if its file cannot be read.

    Args:
        began: Its ``config.yaml``.
        now: The configuration that it goes on with, as YAML.
    """
    try:
        before = load_yaml(read_text(began, began.parent))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return list(differences(with_new_names(before), with_new_names(load_yaml(now))))


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """What differs between two nested mappings, a phrase each.

    Args:
        before: One.
        after: The other.
        where: The dotted name of both.

    >>> list(differences({"a": {"b": 1, "c": 2}, "name": "x"}, {"a": {"b": 3, "d": 4}, "name": "y"}))
    ['a.b is 3 and was 1', 'a.c is gone', 'a.d is new']
    """
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after:
            yield f"{where} is {reprlib.repr(after)} and was {reprlib.repr(before)}"
        return
    for key in sorted({*before, *after}, key=str):
        name = f"{where}.{key}" if where else str(key)
        if name in OF_THE_CALL:
            continue
        if key not in after:
            yield f"{name} is gone"
        elif key not in before:
            yield f"{name} is new"
        else:
            yield from differences(before[key], after[key], name)
