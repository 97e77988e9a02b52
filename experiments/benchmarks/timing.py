"""Timing calls that take turns, and telling it as ratios."""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Timed:
    """What a call took, over its repeats.

    Attributes:
        seconds: Each repeat's.
        memory: The largest resident set above that at the call's start, in bytes, in a round that is not timed.
    """

    seconds: list[float]
    memory: int

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        if len(self.seconds) == 1:
            return f"{self.median:.2f} s"
        return f"{self.median:.2f} s ({min(self.seconds):.2f} to {max(self.seconds):.2f})"


Clock = Callable[[], float]
"""Seconds: ``time.perf_counter``, or ``time.process_time`` for those of the processor alone."""


def alternate(
    calls: Mapping[str, Callable[[], object]], repeats: int, clock: Clock = time.perf_counter
) -> dict[str, Timed]:
    """Time calls that take turns, so that whatever else the machine does falls on all of them.

    A round that warms up comes first, in which memory is measured.

    Args:
        calls: By name.
        repeats: Rounds that are timed.
        clock: By which.
    """
    memory = {name: peak_of(call) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(seconds_of(call, clock))
    return {name: Timed(seconds[name], memory[name]) for name in calls}


def seconds_of(call: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """What one call takes; memory that earlier ones have freed may be used again, as in training."""
    began = clock()
    call()
    return clock() - began


def peak_of(call: Callable[[], object]) -> int:
    """The largest resident set above that at the start, in bytes, looked at every 5 ms.

    What earlier calls have freed is given back to the system first, or it would not show. That slows the call.
    """
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    start = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return max(peak, resident()) - start


def resident(field: str = "VmRSS") -> int:
    """A size from this process's status, in bytes: what is resident now, or with ``VmHWM`` was at the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def conditions(*packages: str) -> str:
    """Versions and threads, for a section's first paragraph."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", *packages))
    return f"{versions}; {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s)"


def verdict(ratio: float, target: float) -> str:
    """Whether a target is reached.

    >>> verdict(5.5, 5), verdict(4.0, 5)
    ('>= 5: yes', '>= 5: no')
    """
    return f">= {target:g}: {'yes' if ratio >= target else 'no'}"
