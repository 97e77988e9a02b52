"""Where files lie: `~` and the working directory are looked up once, when a setting is read."""

from __future__ import annotations

import os
from pathlib import Path


def absolute(path: str | Path) -> Path:
    """The path with `~` expanded, from the root; a link stays one.

    >>> absolute("/runs/../runs/a")
    PosixPath('/runs/a')
    """
    return Path(os.path.abspath(os.path.expanduser(path)))


def folder_or_name(name: str) -> str:
    """Where a folder lies, which may also be a hub's name: from the root if there is such a folder now.

    >>> folder_or_name("meta-llama/Llama-3.1-8B")
    'meta-llama/Llama-3.1-8B'
    """
    path = absolute(name)
    return str(path) if path.is_dir() else name


def briefly(path: Path) -> str:
    """A path as a user writes it: from the working directory, for what lies in it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
