"""What a phase of an iteration needs beside weights, as far as a model's code lets it be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """What a phase needs on top of what lies there anyway.

    Attributes:
        name: The phase.
        size: Bytes of tensors alive at most; None if that is not known.
        reason: Why it is not known.
    """

    name: str
    size: int | None
    reason: str = ""


def largest(name: str, *of: Phase) -> Phase:
    """The one that needs most; not known if one of them is not."""
    unknown = next((phase for phase in of if phase.size is None), None)
    return unknown or Phase(name, max((phase.size or 0 for phase in of), default=0))


def tried(name: str, shared: bool, call: Callable[[bool], int]) -> Phase:
    """With prompts that are shared, or, where the model's code does not allow that, without."""
    reason = ""
    for option in (True, False) if shared else (False,):
        try:
            return Phase(name, call(option))
        except Exception as error:  # whatever code of unknown make raises that wants to see numbers
            reason = f"its code wants to see numbers, {type(error).__name__}: {error}".splitlines()[0]
    return Phase(name, None, reason)
