"""Amounts by name, for people."""

from __future__ import annotations

from collections.abc import Mapping


def in_words(spent: Mapping[str, float]) -> str:
    """What a reward model used up, see ``RewardModel.spent``.

    >>> in_words({"requests": 1200, "prompt_tokens": 98000, "cost": 0.0523})
    'requests 1,200, prompt tokens 98,000, cost 0.0523'
    """
    return ", ".join(f"{what.replace('_', ' ')} {much:,.6g}" if isinstance(much, float) else
                     f"{what.replace('_', ' ')} {much:,}" for what, much in spent.items() if much)  # fmt: skip
