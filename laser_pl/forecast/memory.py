"""Memory on each device, at rest and at its peak in every phase of an iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from laser_pl.forecast.phase import Phase

TOKEN = 16 + 8 + 32
"""Bytes of a sampled token in the host's memory while an iteration's rollouts are put in batches: two int64 tensors,
id and mask, and before that Python's list of integers."""

Sizes = Mapping[str, int | None]
"""Bytes by name; None is not known."""


@dataclass(frozen=True)
class Device:
    """One device, or one of several alike.

    Attributes:
        name: What it is.
        rest: What lies there from the first steps on.
        phases: What comes on top of that in each phase.
        free: Bytes that are free there now; None if that is not known.
        shared: Whether all processes use this one.
    """

    name: str
    rest: Sizes
    phases: tuple[Phase, ...] = ()
    free: int | None = None
    shared: bool = False

    @property
    def at_rest(self) -> int:
        """Bytes of all that lies there and is known."""
        return sum(size or 0 for size in self.rest.values())

    def at(self, phase: Phase) -> int | None:
        """Bytes in a phase at most; None if that is not known."""
        return None if phase.size is None else self.at_rest + phase.size

    @property
    def at_peak(self) -> int:
        """Bytes in the phase that needs most, of those that are known."""
        return max((self.at(phase) or 0 for phase in self.phases), default=self.at_rest)


def devices(
    device: torch.device, processes: int, models: Sizes, host: Sizes, phases: tuple[Phase, ...]
) -> tuple[Device, ...]:
    """The devices of a run, each process's own alike.

    Args:
        device: Where this process computes.
        processes: How many there are.
        models: What lies where the models are.
        host: What lies in the host's memory.
        phases: What each phase needs where the models are.
    """
    free = free_on_host()
    each = "" if processes == 1 else f", each of {processes} processes"
    if device.type == "cpu":
        return (Device(f"CPU{each}", {**models, **host}, phases, free, shared=True),)
    own = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    return (
        Device(f"{device.type.upper()}{each}", models, phases, own),
        Device(f"Host{each}", host, (), free, shared=True),
    )


def held(sizes: Sequence[int | None], budget: int | None) -> int | None:
    """Bytes of reward models on a device once all were chosen: all of them, or what the budget leaves room for.

    >>> held([3, 4], None), held([3, 4], 5), held([3, None], None), held([3, None], 5)
    (7, 5, None, 5)
    """
    total = None if None in sizes else sum(size or 0 for size in sizes)
    return total if budget is None else budget if total is None else min(total, budget)


def free_on_host() -> int | None:
    """Bytes of memory that could be had now, where the system says."""
    return _kilobytes("/proc/meminfo", "MemAvailable:")


def resident() -> int | None:
    """Bytes of this process that lie in memory, where the system says."""
    return _kilobytes("/proc/self/status", "VmRSS:")


def _kilobytes(file: str, name: str) -> int | None:
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
