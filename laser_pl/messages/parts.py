"""Names of the parts of a loss, for people."""

from __future__ import annotations


def called(part: str) -> str:
    """A part's name as people write it: abbreviations of up to four letters in capitals.

    >>> called("dpo"), called("hinge"), called("simpo")
    ('DPO', 'hinge', 'SimPO')
    """
    return "SimPO" if part == "simpo" else part.upper() if len(part) <= 4 else part
