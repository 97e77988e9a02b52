"""A thread that does something again and again while a run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress


class Ticker:
    """Calls a function every so often, from another thread, until it is stopped or there is nobody to write to.

    Args:
        tick: What is called.
        every: Seconds between two calls.
    """

    def __init__(self, tick: Callable[[], None], every: float) -> None:
        self._tick = tick
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="laser_pl view", daemon=True)

    def start(self) -> None:
        """Begin; the first call comes after the first pause."""
        self._thread.start()

    def stop(self) -> None:
        """End. A call that hangs, for a terminal that was stopped by Ctrl-S, is not waited for."""
        self._stopped.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        # A terminal or pipe that is gone leaves nobody to tell.
        with suppress(OSError):
            while not self._stopped.wait(self._every):
                self._tick()
