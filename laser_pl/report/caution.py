"""What a page warns of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Caution:
    """What is odd, and what can be done.

    Attributes:
        what: A sentence with the figures.
        advice: What it may mean and which setting changes it.
    """

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what} {self.advice}"
