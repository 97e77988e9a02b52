"""Online ridge regression with the width of its prediction: the model under every linear arm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Ridge:
    r"""Ridge regression :math:`\theta = A^{-1} b` with :math:`A = \lambda I + \sum c c^\top`, :math:`b = \sum r c`.

    While fewer contexts than dimensions were seen the dual form is kept: the contexts ``X`` and the Cholesky factor of
    :math:`\lambda I + X X^\top`, which costs :math:`O(t d + t^2)` an update and as little in a checkpoint. From then on
    it is the primal form: :math:`A^{-1}` with rank-one updates (Sherman and Morrison), :math:`O(d^2)` each.

    Args:
        size: ``d``.
        penalty: lambda, > 0.
    """

    def __init__(self, size: int, penalty: float = 1.0) -> None:
        self.size = size
        self.penalty = penalty
        self.contexts = torch.zeros(0, size, dtype=torch.float64)  # (t, d)  X
        self.factor = torch.zeros(0, 0, dtype=torch.float64)  # (t, t)  L with L L' = lambda I + X X'
        self.rewards = torch.zeros(0, dtype=torch.float64)  # (t,)
        self.inverse: Tensor | None = None  # (d, d)  A^-1, in the primal form only
        self.moment = torch.zeros(size, dtype=torch.float64)  # (d,)  b
        self._weights: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        r"""The regression's weights :math:`\theta`. Shape ``(d,)``."""
        if self._weights is None:
            if self.inverse is not None:
                self._weights = self.inverse @ self.moment
            else:
                dual = (
                    torch.cholesky_solve(self.rewards[:, None], self.factor)[:, 0]
                    if len(self.rewards)
                    else self.rewards
                )
                self._weights = self.contexts.T @ dual
        return self._weights

    @property
    def precision(self) -> Tensor:
        r"""The matrix :math:`A`. Shape ``(d, d)``."""
        if self.inverse is not None:
            inverse: Tensor = torch.linalg.inv(self.inverse)
            return inverse
        return self.penalty * torch.eye(self.size, dtype=torch.float64) + self.contexts.T @ self.contexts

    def mean(self, contexts: Tensor) -> Tensor:
        r"""Predictions :math:`c^\top\theta`. Shapes ``(M, d)`` to ``(M,)``."""
        return contexts.double() @ self.weights

    def width(self, contexts: Tensor) -> Tensor:
        r"""How little is known there, :math:`\sqrt{c^\top A^{-1} c}`. Shapes ``(M, d)`` to ``(M,)``."""
        contexts = contexts.double()
        if self.inverse is not None:
            square = ((contexts @ self.inverse) * contexts).sum(-1)
        else:
            known = torch.linalg.solve_triangular(self.factor, self.contexts @ contexts.T, upper=False)  # (t, M)
            square = (contexts.square().sum(-1) - known.square().sum(0)) / self.penalty
        return square.clamp(min=0).sqrt()

    def update(self, context: Tensor, reward: float) -> None:
        """Learn one observation.

        Args:
            context: Shape ``(d,)``.
            reward: Any finite number.
        """
        context = context.double()
        self._weights = None
        self.moment = self.moment + reward * context
        if self.inverse is not None:
            direction = self.inverse @ context  # (d,)
            self.inverse = self.inverse - torch.outer(direction, direction) / (1 + context @ direction)
            return
        row = torch.linalg.solve_triangular(self.factor, (self.contexts @ context)[:, None], upper=False)[:, 0]  # (t,)
        corner = (self.penalty + context.square().sum() - row.square().sum()).sqrt()
        t = len(self.rewards)
        factor = torch.zeros(t + 1, t + 1, dtype=torch.float64)
        factor[:t, :t], factor[t, :t], factor[t, t] = self.factor, row, corner
        self.factor = factor
        self.contexts = torch.cat([self.contexts, context[None]])
        self.rewards = torch.cat([self.rewards, torch.tensor([reward], dtype=torch.float64)])
        if t + 1 >= self.size:
            self._become_primal()

    def _become_primal(self) -> None:
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(self.precision))
        empty = Ridge(self.size, self.penalty)
        self.contexts, self.factor, self.rewards = empty.contexts, empty.factor, empty.rewards

    def state_dict(self) -> dict[str, Any]:
        """What was learned, in the form it is in."""
        return {
            "contexts": self.contexts,
            "factor": self.factor,
            "rewards": self.rewards,
            "inverse": self.inverse,
            "moment": self.moment,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""
        self.contexts, self.factor, self.rewards = state["contexts"], state["factor"], state["rewards"]
        self.inverse, self.moment = state["inverse"], state["moment"]
        self._weights = None
