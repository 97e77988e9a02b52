"""What lies on a hub: its configuration is asked for once, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets.config
import httpx
import huggingface_hub.constants

from laser_pl.messages.places import absolute

SECONDS = 5.0
"""How long an answer of the hub is waited for; its client would try again for half a minute."""


def may_be_on_hub(name: str) -> bool:
    """Whether weights of that name are looked for on a hub, since there is no such folder."""
    return not absolute(name).is_dir() and name.count("/") <= 1 and not name.startswith((".", "~"))


def is_out_of_reach() -> bool:
    """Whether no hub is asked, by the environment or within ``out_of_reach``."""
    return bool(huggingface_hub.constants.HF_HUB_OFFLINE)


def is_reachable() -> bool:
    """Whether the hub answers. It is not asked where the environment says that it must not be."""
    if is_out_of_reach():
        return False
    try:
        httpx.head(huggingface_hub.constants.ENDPOINT, timeout=SECONDS, follow_redirects=False)
    except httpx.HTTPError:
        return False
    return True


@contextmanager
def out_of_reach() -> Iterator[None]:
    """A block in which no hub is asked; what was fetched earlier is there."""
    flags: list[tuple[Any, bool]] = [
        (module, module.HF_HUB_OFFLINE) for module in (huggingface_hub.constants, datasets.config)
    ]
    try:
        for module, _ in flags:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, before in flags:
            module.HF_HUB_OFFLINE = before
