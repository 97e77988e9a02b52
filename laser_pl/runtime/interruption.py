"""Ctrl-C, SIGTERM and SLURM's warning before pre-emption: finish what is under way, save, end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PATIENCE = 7.0
"""Seconds that a training step may still take; who asks a process to end often kills it after ten."""


class Interrupted(BaseException):
    """The run was asked to end. No Exception, so that nothing that deals with errors deals with it.

    Args:
        signum: The signal that asked.
        everywhere: Whether all processes of the run end at this place.
    """

    def __init__(self, signum: int, everywhere: bool = False) -> None:
        super().__init__(f"Interrupted by {signal.Signals(signum).name}")
        self.signum = signum
        self.everywhere = everywhere


class Interruption:
    """Raises ``Interrupted`` when a signal comes: at once, or while it is patient at the next good place.

    A second signal, or ``PATIENCE`` seconds, end the patience.

    Attributes:
        patient: Whether something is under way that is worth finishing.
        asked: The signal that waits for it.
        run: The folder of the run that can go on afterwards, once there is one.
    """

    def __init__(self) -> None:
        self.patient = False
        self.asked: int | None = None
        self.run: Path | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over for a while; in a thread, where Python has none, leave them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in (*SIGNALS, signal.SIGALRM)}
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.patient and self.asked is None and signum != signal.SIGALRM:
            self.asked = signum
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        else:
            raise Interrupted(signum if self.asked is None else self.asked)
