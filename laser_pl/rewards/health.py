"""Which reward models may be asked: one that fails again and again is put aside for a while."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.errors import ConfigurationError

log = logging.getLogger(__name__)


class Health:
    """Counts failed calls in a row.

    After ``max_failures`` of them a reward model is put aside for ``cooldown`` steps. Then it is on probation: its next
    failure puts it aside again, its next success clears it.

    Args:
        names: The reward models.
        max_failures: Failed calls in a row that put one aside, >= 1.
        cooldown: Training steps for which it is not asked, >= 1.
    """

    def __init__(self, names: Sequence[str], max_failures: int = 3, cooldown: int = 20) -> None:
        for setting, value in (("max_failures", max_failures), ("cooldown", cooldown)):
            if value < 1:
                raise ConfigurationError(f"{setting} must be >= 1, got {value}. Set selection.{setting} in the config.")
        self.names = list(names)
        self.max_failures = max_failures
        self.cooldown = cooldown
        self.step = 0
        self.last_reason = ""
        self._in_a_row = dict.fromkeys(self.names, 0)
        self._aside_until = dict.fromkeys(self.names, 0)

    def may_be_asked(self, name: str) -> bool:
        """Whether it is not aside in this step."""
        return self.step >= self._aside_until[name]

    def open(self, names: Sequence[str]) -> Tensor:
        """Which of them are not aside. Shape ``(K,)``, bool."""
        return torch.tensor([self.may_be_asked(name) for name in names])

    @property
    def nobody_left(self) -> str:
        """What to say once nobody is."""
        return f"No reward model is left that can judge; the last one that failed was {self.last_reason}."

    def succeeded(self, name: str) -> None:
        """A call brought at least one label."""
        self._in_a_row[name] = 0

    def failed(self, name: str, reason: str) -> None:
        """A call brought none.

        Args:
            name: The reward model.
            reason: Why, for the log.
        """
        self._in_a_row[name] += 1
        self.last_reason = f"{name}: {reason}"
        if self._in_a_row[name] >= self.max_failures:
            self._aside_until[name] = self.step + 1 + self.cooldown
            log.warning(
                "The reward model '%s' failed %d times in a row and is put aside for %d steps. The last time: %s",
                name, self._in_a_row[name], self.cooldown, reason,
            )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Failures in a row, and who is aside until when."""
        return {"step": self.step, "in_a_row": dict(self._in_a_row), "aside_until": dict(self._aside_until)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up for the reward models that are still there."""
        self.step = state["step"]
        for name in self.names:
            self._in_a_row[name] = state["in_a_row"].get(name, 0)
            self._aside_until[name] = state["aside_until"].get(name, 0)

    def clear(self) -> None:
        """Give everybody a fresh chance."""
        self._in_a_row = dict.fromkeys(self.names, 0)
        self._aside_until = dict.fromkeys(self.names, 0)
