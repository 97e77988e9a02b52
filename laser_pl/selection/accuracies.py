"""How often each reward model puts a right response above a wrong one, as far as the signal measured it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.feedback.observations import Observations
from laser_pl.objectives.dpo import UNMEASURED

COUNTS_AS = 4
"""An arm begins as if so many prompts had been measured, with 1 - ``UNMEASURED``: one prompt says little."""


class Accuracies:
    """Mean pair accuracy of each arm, by its name.

    >>> found = Accuracies()
    >>> found.of(["a"], torch.tensor([0]))
    tensor([0.9000], dtype=torch.float64)
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}  # of accuracies, and of prompts

    def note(self, arms: Sequence[str], seen: Observations) -> None:
        """Take in what was measured of single prompts."""
        for arm, value in zip(seen.arm.tolist(), seen.value.tolist(), strict=True):
            total, count = self._sums.get(arms[arm], (0.0, 0.0))
            self._sums[arms[arm]] = [total + value, count + 1]

    def of(self, arms: Sequence[str], scorers: Tensor) -> Tensor:
        """Those of the arms that scored, by their indices. Shapes ``(B,)``, float64."""
        sums = [self._sums.get(name, (0.0, 0.0)) for name in arms]
        means = [(total + COUNTS_AS * (1 - UNMEASURED)) / (count + COUNTS_AS) for total, count in sums]
        return torch.tensor(means, dtype=torch.float64)[scorers]

    def state_dict(self) -> dict[str, list[float]]:
        """Sums and counts by name."""
        return {name: list(sums) for name, sums in self._sums.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Take them up."""
        self._sums = {name: list(sums) for name, sums in state.items()}
