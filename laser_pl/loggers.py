"""Small things around Lightning's loggers."""

from __future__ import annotations

import os


def go_offline_without_key() -> None:
    """Let W&B write to disk where nobody is logged in, instead of asking; ``WANDB_MODE`` overrules."""
    if "WANDB_API_KEY" not in os.environ and not _has_netrc():
        os.environ.setdefault("WANDB_MODE", "offline")


def _has_netrc() -> bool:
    return any(os.path.exists(os.path.expanduser(path)) for path in ("~/.netrc", "~/_netrc"))
