"""Work in a thread, beside what the program does."""

from __future__ import annotations

import threading
from collections.abc import Callable

from laser_pl.runtime import progress


class Meanwhile:
    """Does work that takes long by waiting for others. A process that ends does not wait for it.

    Args:
        work: What is done. Nobody who shows progress hears of it.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with progress.unheard():
                self._work()
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Wait until it has ended, well or badly."""
        self._thread.join()

    def end(self) -> None:
        """Wait until it has ended, and raise what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
