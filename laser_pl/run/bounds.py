"""Bounds for what a template or a packed file of somebody else's may take."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

SECONDS = 10.0
BYTES = 2**30
"""More than what the process has already; where the system says and takes such bounds."""
_LEAST, _TIMES = 2**32, 200
"""Bytes that a packed file's content may take, and how many times its own size: text has some ten times."""


@contextmanager
def bounded(seconds: float = SECONDS, size: int = BYTES) -> Iterator[None]:
    """Run a block that ends in time and memory, in the main thread of a process on Linux.

    Raises:
        TimeoutError: If it takes longer.
        MemoryError: If it needs more.
    """
    with in_memory(size), _in_time(seconds):
        yield


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it takes longer than {seconds:g} seconds")

    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def in_memory(size: int) -> Iterator[None]:
    """Run a block that takes no more memory than so many bytes besides.

    Raises:
        MemoryError: If it needs more.
    """
    try:
        import resource  # no such thing on Windows

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        before = resource.getrlimit(resource.RLIMIT_AS)
        most = pages * resource.getpagesize() + size
        if before[0] != resource.RLIM_INFINITY:
            most = min(most, before[0])
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def memory_for(file: IO[bytes]) -> Iterator[None]:
    """Run a block that reads a packed file, Parquet for example: some kilobytes of it can hold any number of values.

    Raises:
        MemoryError: If the block needs more than 4 GiB, and more than 200 times the file's bytes.
    """
    with in_memory(max(_LEAST, _TIMES * os.fstat(file.fileno()).st_size)):
        yield
