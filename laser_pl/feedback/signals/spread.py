"""How far each reward model's scores of one prompt's responses lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Spread:
    """The standard deviation of each arm's scores about their prompt's mean, over all that it took in so far.

    Reward models score in units of their own; divided by their spread, scores can be compared.
    """

    def __init__(self) -> None:
        self._arms: list[str] = []
        self._squares: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names, under which their spreads are kept."""
        self._arms = list(arms)

    def observe(self, arm: int, scores: Tensor) -> Tensor:
        """Take an arm's scores in.

        Args:
            arm: Its index.
            scores: NaN is no opinion. Shape ``(B, n)``, float64.

        Returns:
            Its spread, these scores included, > 0. A scalar.
        """
        deviations = (scores - scores.nanmean(dim=-1, keepdim=True))[scores.isfinite()]
        name = self._arms[arm]
        self._squares[name] = self._squares.get(name, 0.0) + float(deviations.square().sum())
        self._counts[name] = self._counts.get(name, 0) + deviations.numel()
        spread = math.sqrt(self._squares[name] / max(self._counts[name], 1))
        return torch.tensor(max(spread, 1e-12), dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        """Each arm's spread."""
        return {"squares": dict(self._squares), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up each arm's spread."""
        self._squares, self._counts = dict(state["squares"]), dict(state["counts"])
