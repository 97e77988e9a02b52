"""The device that is looked at: its clock, its memory, and what it can do at best."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import torch

from laser_pl.forecast.live_bytes import LiveBytes

PACKAGES = ("torch", "transformers", "peft", "lightning", "bitsandbytes", "trl", "triton")


@dataclass(frozen=True)
class Finding:
    """What a row found.

    Attributes:
        text: In words, with its figures.
        holds: Whether it is as it should be; None where there is no should.
        numbers: The figures by name, for whoever reads the JSON.
    """

    text: str
    holds: bool | None = None
    numbers: dict[str, float] = field(default_factory=dict)


class LeftOut(Exception):  # noqa: N818 - nothing went wrong
    """What this machine cannot be asked, and why."""


class Card:
    """One device.

    Args:
        device: Such as ``cuda`` or ``cpu``.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    @property
    def is_cuda(self) -> bool:
        """Whether it is a card at all."""
        return self.device.type == "cuda"

    @property
    def name(self) -> str:
        """What it calls itself."""
        return torch.cuda.get_device_name(self.device) if self.is_cuda else "CPU"

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that decide what is measured, and of the driver."""
        found = {}
        for package in PACKAGES:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "none"
        if self.is_cuda:
            found["CUDA"] = str(torch.version.cuda)
            found["driver"] = _driver()
        return found

    @property
    def memory(self) -> int:
        """Bytes of the whole card."""
        return int(torch.cuda.get_device_properties(self.device).total_memory)

    def wait(self) -> None:
        """Until all that was begun is done."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Give back what nobody holds any more."""
        gc.collect()  # bitsandbytes' 4-bit layers hold themselves in cycles
        if self.is_cuda:
            torch.cuda.empty_cache()

    def seconds(self, call: Callable[[], object], repeats: int = 1, warm_up: bool = True) -> float:
        """The median of some calls, after one that is not timed."""
        if warm_up:
            call()
        took = []
        for _ in range(repeats):
            self.wait()
            began = time.perf_counter()
            call()
            self.wait()
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    def peak(self, call: Callable[[], object]) -> int:
        """Bytes of tensors that are there at most during a call; on a CPU, of those that it makes."""
        self.free()
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
            call()
            return int(torch.cuda.max_memory_allocated(self.device))
        with LiveBytes() as live:
            call()
        return live.peak

    @cached_property
    def bandwidth(self) -> float:
        """Bytes per second of a large copy, those read and those written together."""
        size = 2**31 if self.is_cuda else 2**25
        source = torch.ones(size, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2 * size / self.seconds(lambda: target.copy_(source), repeats=5)

    @cached_property
    def rate(self) -> float:
        """Operations per second of a large matrix product in bfloat16, on random numbers."""
        size = 8192 if self.is_cuda else 512
        a, b = (torch.randn(size, size, device=self.device).bfloat16() for _ in range(2))
        return float(2 * size**3 / self.seconds(lambda: a @ b, repeats=5))


def _driver() -> str:
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # whatever is missing of it, its number is not worth a row
        return "unknown"


def gib(size: float) -> str:
    """Bytes for people.

    >>> gib(3 * 2**29), gib(5 * 2**20)
    ('1.50 GiB', '5 MiB')
    """
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"
