"""Folders that loggers, callbacks and profilers of Lightning's write to."""

from __future__ import annotations

import copy
from typing import Any

from jsonargparse import Namespace

from laser_pl.messages.places import absolute

_NAMES = {"save_dir", "dirpath", "root_dir", "dir"}


def from_root(settings: Any, name: str = "") -> Any:
    """A copy of settings in which such folders are named from the root, so that no later change of folder moves them.

    Args:
        settings: Of the trainer, at any depth.
        name: Of the setting.

    >>> from_root(Namespace(save_dir="/logs/../own", name="own"))
    Namespace(save_dir='/own', name='own')
    """
    if isinstance(settings, Namespace):
        result = copy.copy(settings)
        result.__dict__.update({key: from_root(value, key) for key, value in vars(settings).items()})
        return result
    if isinstance(settings, list):
        return [from_root(value) for value in settings]
    is_folder = name in _NAMES and isinstance(settings, str) and "://" not in settings
    return str(absolute(settings)) if is_folder else settings
