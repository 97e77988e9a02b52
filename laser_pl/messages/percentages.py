"""Shares in whole per cent."""

from __future__ import annotations

import math
from collections.abc import Mapping


def percentages(shares: Mapping[str, float]) -> dict[str, int]:
    """Shares of one, in whole per cent that add up to 100, the largest first.

    Each is rounded down, and what is missing to 100 goes to those that lost most (largest remainders); each rounded by
    itself, three thirds would be 99 %.

    Args:
        shares: Not negative, of any sum; they are shares of it.

    Returns:
        Those that are not 0 %.

    >>> percentages({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}), percentages({"a": 0.001, "b": 0.999})
    ({'a': 34, 'b': 33, 'c': 33}, {'b': 100})
    """
    total = sum(shares.values())
    if total == 0:
        return {}
    # Binary fractions lie a little below or above what they stand for: 0.29 * 100 would be 28 and a large remainder.
    exact = {name: round(100 * share / total, 9) for name, share in shares.items()}
    found = {name: math.floor(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: found[name] - exact[name])[: 100 - sum(found.values())]:
        found[name] += 1
    return {name: found[name] for name in sorted(shares, key=lambda name: -shares[name]) if found[name]}


def in_per_cent(shares: Mapping[str, float]) -> list[str]:
    """The same in words.

    >>> in_per_cent({"a": 0.25, "b": 0.75})
    ['b 75%', 'a 25%']
    """
    return [f"{name} {number}%" for name, number in percentages(shares).items()]
