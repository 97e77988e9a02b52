"""Plain lines for what is no terminal: the log of a cluster, a pipe, a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from laser_pl.messages.terminal import shown
from laser_pl.runtime.progress import Task
from laser_pl.view.state import State
from laser_pl.view.ticker import Ticker
from laser_pl.view.words import clock, place, task_in_words

SILENT_FOR = 60.0
"""Seconds after which something is said again."""


class Lines:
    """Says on standard error what begins and what came of it, and how far it is when nothing was said for a minute.

    Args:
        state: Returns the state of the moment.
        now: Returns the time, in seconds.
    """

    def __init__(self, state: Callable[[], State], now: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._now = now
        self._ticker = Ticker(self.break_silence, every=1.0)
        self._said = now()
        self._gone = False

    def start(self) -> None:
        """Begin."""
        self._ticker.start()

    def close(self) -> None:
        """End."""
        self._ticker.stop()

    def begins(self, task: Task) -> None:
        """A phase of the run begins."""
        state = self._state()
        amount = "" if task.total is None else f", {task.total:.0f} {task.unit}"
        where = f"{place(state)}: " if state.iteration is not None else ""
        text = f"{where}{task.what}{amount}"
        self.say(shown(text[:1].upper() + text[1:]))

    def say(self, line: str) -> None:
        """Something that came of it, as it is to be shown."""
        self._said = self._now()
        if not self._gone:
            try:
                print(f"[{clock(self._said - self._state().began)}] {line}", file=sys.stderr, flush=True)
            except OSError:  # whoever listened is gone, and the run goes on
                self._gone = True

    def break_silence(self) -> None:
        """Say how far it is, if it is time to."""
        state, now = self._state(), self._now()
        if now - self._said >= SILENT_FOR:
            self.say(task_in_words(state, now))
