"""What is odd about how alike reward models judge."""

from __future__ import annotations

from collections.abc import Callable

from laser_pl.report.agreement import meetings
from laser_pl.report.caution import Caution
from laser_pl.report.records import RunRecords

ALIKE = 0.95
"""Share of pairs of responses that two reward models order alike from which on one of them adds nothing new; below
what is left of 1, one is the other's inverse."""
MET_PROMPTS = 5
MET_PAIRS = 30
"""So many prompts, and pairs of responses, two reward models must both have ordered before anything is said of them."""


def alike(records: RunRecords) -> Caution | None:
    """Two reward models order at least 95 % of the pairs of responses alike."""
    told = _meetings(records, lambda share: share >= ALIKE)
    if told is None:
        return None
    return Caution(
        f"Reward models judge almost always alike: {told}.",
        "One of them costs forwards and adds nothing new, and the bandit cannot distinguish them. Leave one out, or"
        " take one that differs.",
    )


def opposed(records: RunRecords) -> Caution | None:
    """Two reward models order at most 5 % of the pairs of responses alike."""
    told = _meetings(records, lambda share: share <= 1 - ALIKE)
    if told is None:
        return None
    return Caution(
        f"Reward models judge almost never alike: {told}.",
        "One seems to be the other's inverse. See which is right on the recorded prompts, and check the sign of the"
        " other's score, its template and its head_weights.",
    )


def _meetings(records: RunRecords, odd: Callable[[float], bool]) -> str | None:
    """Pairs of reward models whose agreement is odd, in words; None if there are none. Three at most."""
    found = [
        (both, met)
        for both, met in meetings([*records.judged, *records.probed], records.arms).items()
        if met.prompts >= MET_PROMPTS and met.pairs >= MET_PAIRS and odd(met.share)
    ]
    told = [f"'{a}' and '{b}' order {met.share:.0%} of {met.pairs} pairs of responses alike" for (a, b), met in found]
    return "; ".join([*told[:3], *([f"and {len(told) - 3} more"] if len(told) > 3 else [])]) or None
