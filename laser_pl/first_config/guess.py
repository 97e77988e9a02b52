"""What was guessed of a setting, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Guess:
    """One setting.

    Attributes:
        value: What it is set to; plain values, as YAML has them.
        why: What was seen, as a comment of one line.
        ask: What the user should look at, where what was seen may mean something else; empty where it cannot.
    """

    value: Any
    why: str
    ask: str = ""
