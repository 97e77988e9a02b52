"""Ridge regression around a level that is believed beforehand."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from laser_pl.bandits.ridge import Ridge


class LevelledRidge(Ridge):
    r"""Predicts :math:`\mu + c^\top\theta`, where the level :math:`\mu` is ``level`` until rewards say otherwise.

    It is the regression of what exceeds ``level`` on contexts with one more column, a constant :math:`\kappa`. Under
    the penalty 1 that is a level with the prior variance :math:`\kappa^2`, which weighs as much as
    :math:`1 / \kappa^2` observations.

    Args:
        size: ``d``, without that column.
        level: Expected reward before anything is known.
        column: :math:`\kappa`; 0 leaves the level as it is.
    """

    def __init__(self, size: int, level: float, column: float) -> None:
        super().__init__(size + 1)
        self.level = level
        self.column = column

    def mean(self, contexts: Tensor) -> Tensor:
        """Predictions. Shapes ``(M, d)`` to ``(M,)``."""
        return self.level + super().mean(self._with_column(contexts))

    def width(self, contexts: Tensor) -> Tensor:
        """How little is known there, of the level too. Shapes ``(M, d)`` to ``(M,)``."""
        return super().width(self._with_column(contexts))

    def update(self, context: Tensor, reward: float) -> None:
        """Learn one observation, whose context has the shape ``(d,)``."""
        super().update(self._with_column(context), reward - self.level)

    def _with_column(self, contexts: Tensor) -> Tensor:
        return pad(contexts.double(), (0, 1), value=self.column)

    def state_dict(self) -> dict[str, Any]:
        """What was learned, and what it is relative to."""
        return {**super().state_dict(), "level": self.level, "column": self.column}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""
        super().load_state_dict(state)
        self.level, self.column = state["level"], state["column"]
