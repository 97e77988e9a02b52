"""What takes long says here how far it is, and whoever shows that listens.

There is one listener in a process at a time, as with logging: who is asked to score or to sample is called through
contracts that have no place for one. Without a listener nothing happens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Task:
    """Something that takes a while.

    Attributes:
        what: Its name, which may hold names from the configuration.
        unit: What is counted, in the plural.
        total: How many of them there are; None if nobody knows.
        done: How many are done.
        found: How many of these were done already when it began.
        began: When it began, in seconds of ``time.monotonic``.
        advanced: When some were last done; None before.
    """

    what: str
    unit: str = ""
    total: float | None = None
    done: float = 0.0
    found: float = 0.0
    began: float = field(default_factory=time.monotonic)
    advanced: float | None = None


class Listener(Protocol):
    """Hears of tasks, which lie within one another: the last one that began is the first one to end."""

    def begin(self, task: Task) -> None:
        """One begins."""

    def advance(self, count: float) -> None:
        """So many more of the innermost one are done; a fraction, where a part of one is."""

    def end(self) -> None:
        """The innermost one ends."""


_listener: Listener | None = None
_unheard: ContextVar[bool] = ContextVar("_unheard", default=False)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inform a listener, instead of the one before, for as long as the block runs."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


@contextmanager
def task(what: str, unit: str = "", total: float | None = None, found: float = 0.0) -> Iterator[None]:
    """Inform the listener of the block as a task, see ``Task``."""
    listener = None if _unheard.get() else _listener
    if listener is None:
        yield
        return
    listener.begin(Task(what, unit, total, found, found))
    try:
        yield
    finally:
        listener.end()


def advance(count: float) -> None:
    """Inform the listener that so many more are done of the innermost task."""
    if _listener is not None and not _unheard.get():
        _listener.advance(count)


@contextmanager
def unheard() -> Iterator[None]:
    """A block of which the listener hears nothing, as in a thread: its tasks lie within nobody else's."""
    token = _unheard.set(True)
    try:
        yield
    finally:
        _unheard.reset(token)
