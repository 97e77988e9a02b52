"""Ridge regression that forgets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.aligned import aligned


class WeightedRidge:
    r"""Ridge regression with weights, :math:`V = I + \sum w_i c_i c_i^\top`, :math:`b = \sum w_i r_i c_i`.

    Observations are kept as they came, since weights change. A question solves a system of their number or of the
    contexts' size, whichever is smaller.

    Args:
        size: ``d``.
    """

    def __init__(self, size: int) -> None:
        self.contexts = torch.zeros(0, size, dtype=torch.float64)  # (t, d)
        self.rewards = torch.zeros(0, dtype=torch.float64)
        self.times = torch.zeros(0, dtype=torch.long)

    def update(self, context: Tensor, reward: float, time: int) -> None:
        """Keep one observation. Shape of the context ``(d,)``."""
        self.contexts = torch.cat([self.contexts, context.double()[None]])
        self.rewards = torch.cat([self.rewards, self.rewards.new_tensor([reward])])
        self.times = torch.cat([self.times, self.times.new_tensor([time])])

    def forget(self, before: int) -> None:
        """Drop what was observed before a time."""
        kept = self.times >= before
        self.contexts, self.rewards, self.times = self.contexts[kept], self.rewards[kept], self.times[kept]

    def predict(self, questions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        r"""Means :math:`c^\top V^{-1} b` and widths :math:`\sqrt{c^\top V^{-1} \tilde V V^{-1} c}`.

        :math:`\tilde V = I + \sum w_i^2 c_i c_i^\top`, as in Eq. (5) of Russac et al. 2019; with weights of 1 it is V.

        Args:
            questions: Shape ``(M, d)``.
            weights: Of the observations, > 0. Shape ``(t,)``.

        Returns:
            Both of shape ``(M,)``, float64.
        """
        questions, rows = aligned(questions), self.contexts
        count, size = rows.shape
        if count < size:  # V^-1 = I - C^T (W^-1 + C C^T)^-1 C
            inner = torch.diag(1 / weights) + rows @ rows.T  # (t, t)
            solved = questions - torch.linalg.solve(inner, rows @ questions.T).T @ rows  # (M, d)
        else:
            precision = torch.eye(size, dtype=torch.float64) + rows.T @ (weights[:, None] * rows)
            solved = torch.linalg.solve(precision, questions.T).T
        along = solved @ rows.T  # (M, t)
        mean = along @ (weights * self.rewards)
        square = solved.square().sum(-1) + (along * weights).square().sum(-1)
        return mean, square.sqrt()

    def state_dict(self) -> dict[str, Any]:
        """The observations."""
        return {"contexts": self.contexts, "rewards": self.rewards, "times": self.times}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.contexts, self.rewards = aligned(state["contexts"]), aligned(state["rewards"])
        self.times = state["times"].clone()
