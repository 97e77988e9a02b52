"""Reward functions with TRL's signature, for the configs beside them."""

from __future__ import annotations

from typing import Any


async def brevity(prompts: list[Any], completions: list[str], **columns: Any) -> list[float | None]:
    """Prefer short responses; no opinion on empty ones."""
    return [-float(len(text)) if text else None for text in completions]


def no_leading_zero(prompts: list[Any], completions: list[str], **columns: Any) -> list[float]:
    """Tell answers as they should be written (1) from empty ones and from numbers that begin with 0: a format."""
    return [float(bool(text) and not text.startswith("0")) for text in completions]
