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
        memory: The largest resident set above that at the call's start, in bytes, over the repeats.
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


def alternate(calls: Mapping[str, Callable[[], object]], repeats: int, warm_up: bool = True) -> dict[str, Timed]:
    """Time calls that take turns, so that whatever else the machine does falls on all of them.

    Args:
        calls: By name.
        repeats: Rounds that count.
        warm_up: Whether a round goes before them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    memory = dict.fromkeys(calls, 0)
    for number in range(repeats + warm_up):
        for name, call in calls.items():
            took, peak = once(call)
            if number >= warm_up:
                seconds[name].append(took)
                memory[name] = max(memory[name], peak)
    return {name: Timed(seconds[name], memory[name]) for name in calls}


def once(call: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and the largest resident set above that at the start, looked at every 5 ms.

    What earlier calls have freed is given back to the system first, or it would not show.
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
    began = time.perf_counter()
    call()
    took = time.perf_counter() - began
    done.set()
    watcher.join()
    return took, max(peak, resident()) - start


def resident() -> int:
    """This process's resident set in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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
