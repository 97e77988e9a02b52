"""Which reward models are in memory: the most recently used that fit a budget."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Collection, Mapping
from typing import Literal

import torch

from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.runtime import progress

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(text: str) -> int:
    """A size such as ``24GiB`` in bytes.

    Raises:
        ConfigurationError: If it is none.

    >>> parse_bytes("1.5 GiB"), parse_bytes("200MB")
    (1610612736, 200000000)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B?)\s*", text.upper())
    if found is None or found[2] not in _UNITS:
        raise ConfigurationError(
            f"'{text}' is no size. Set selection.memory_budget to a number with a unit, such as 24GiB or 500MB."
        )
    return int(float(found[1]) * _UNITS[found[2]])


def show_bytes(size: int) -> str:
    """A size for people.

    >>> show_bytes(1610612736)
    '1.5 GiB'
    """
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if size >= _UNITS[unit.upper()]), "B")
    return f"{size / _UNITS[unit.upper()]:.4g} {unit}"


class Memory:
    """Loads reward models, and frees the memory of those that were not used for longest before it runs out.

    Memory is freed before the next weights are read, so there are never two copies of one model, nor more than the
    budget in use.

    Args:
        reward_models: What may be asked for, by name.
        budget: Bytes of weights held on a device, such as ``24GiB``; null keeps all that were ever used.
        spill: Where evicted weights go: ``cpu`` keeps them in the host's memory, from where they are back soon, and
            ``disk`` gives them up, since they still lie where they were loaded from. On the CPU both are ``disk``.
    """

    def __init__(
        self,
        reward_models: Mapping[str, RewardModel],
        budget: str | int | None = None,
        spill: Literal["cpu", "disk"] = "disk",
    ) -> None:
        self.reward_models = reward_models
        self.budget = None if budget is None else parse_bytes(str(budget))
        self.spill = spill
        self._known: dict[str, int] = {}  # sizes that were asked for; telling one takes a model without weights
        self._sizes: dict[str, int] = {}  # of what is on the device, the least recently used first

    @property
    def held(self) -> list[str]:
        """Names of the reward models on the device, the least recently used first."""
        return list(self._sizes)

    def check(self) -> None:
        """See whether every reward model fits the budget alone.

        Raises:
            ConfigurationError: If one does not.
        """
        for name in self.reward_models:
            self.check_fits(name)

    def check_fits(self, name: str) -> None:
        """See whether one reward model fits the budget alone.

        Raises:
            ConfigurationError: If it does not.
        """
        if self.budget is None:
            return
        size = sum(map(self._size_of, self._together(name)))
        if size > self.budget:
            raise ConfigurationError(
                f"The reward model '{name}' has {show_bytes(size)} of weights, more than selection.memory_budget ="
                f" {show_bytes(self.budget)}. Raise the budget, quantise the model, or take it out."
            )

    def hold(self, name: str, device: torch.device) -> None:
        """Have a reward model on the device, the arms that it asks as well, and remember that they were used."""
        together = self._together(name)
        for each in together:
            self._hold(each, together, device)

    def _together(self, name: str) -> list[str]:
        """Arms that it asks, those that these ask before them, and itself."""
        before = [each for arm in self.reward_models[name].arms() for each in self._together(arm)]
        return list(dict.fromkeys([*before, name]))

    def _hold(self, name: str, together: Collection[str], device: torch.device) -> None:
        if name in self._sizes:
            self._sizes[name] = self._sizes.pop(name)
            return
        reward_model = self.reward_models[name]
        size = 0
        if self.budget is not None:
            size = self._size_of(name)
            while sum(self._sizes.values()) + size > self.budget:
                others = (held for held, bytes_ in self._sizes.items() if bytes_ and held not in together)
                self._evict(next(others), device)
        with progress.task(f"loading {name}"):
            reward_model.load(device)
        self._sizes[name] = size

    def _size_of(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = self.reward_models[name].size()
        return self._known[name]

    def _evict(self, name: str, device: torch.device) -> None:
        del self._sizes[name]
        if self.spill == "cpu" and device.type != "cpu":
            self.reward_models[name].offload()
        else:
            self.reward_models[name].unload()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        _return_to_system()


def _return_to_system() -> None:
    """Hand freed memory of the host back: glibc keeps most tensors' after a load that used several threads."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
