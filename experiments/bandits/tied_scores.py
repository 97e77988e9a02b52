"""Reward functions that distinguish nothing, somewhere or anywhere, for ``ties.py``."""

from __future__ import annotations

from typing import Any


def constant(prompts: list[Any], completions: list[str], **columns: Any) -> list[float]:
    """Give everything a 3, as a judge that does not dare to."""
    return [3.0] * len(completions)


def length_but_for_sorting(
    prompts: list[Any], completions: list[str], category: list[str], **columns: Any
) -> list[float]:
    """Prefer long responses, but give every response to a prompt of one category the same."""
    return [0.0 if kind == "sorting" else float(len(text)) for text, kind in zip(completions, category, strict=True)]


def faint(prompts: list[Any], completions: list[str], **columns: Any) -> list[float]:
    """Prefer long responses by less than any margin that is asked for."""
    return [1e-3 * len(text) for text in completions]


def mute(prompts: list[Any], completions: list[str], **columns: Any) -> list[float | None]:
    """Have no opinion."""
    return [None] * len(completions)
