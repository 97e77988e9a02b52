"""From hidden states to the bandit's contexts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.aligned import aligned
from laser_pl.errors import ConfigurationError


class ContextPreparation:
    """Makes hidden states comparable before a linear bandit sees them.

    Hidden states share a large common part and have a norm that sets LinUCB's exploration by accident: an untried arm's
    bonus is alpha times that norm. Without the common part and with unit norm, alpha means the same for every policy.

    Args:
        center: Whether the running mean of all contexts so far is subtracted.
        unit_norm: Whether contexts are scaled to norm 1 after that.
        intercept: A constant appended as one more dimension; 0 appends none.
        projection: Dimensions to project to before all this; null keeps all. By random numbers that follow from the
            sizes alone (Johnson and Lindenstrauss 1984: norms and angles change little).
    """

    def __init__(
        self, center: bool = True, unit_norm: bool = True, intercept: float = 0.3, projection: int | None = None
    ) -> None:
        if intercept < 0:
            raise ConfigurationError(f"intercept must be >= 0, got {intercept}. Set selection.context.intercept.")
        if projection is not None and projection < 1:
            raise ConfigurationError(f"projection must be >= 1, got {projection}. Set selection.context.projection.")
        self.center = center
        self.unit_norm = unit_norm
        self.projection = projection
        self.intercept = intercept
        self._directions: Tensor | None = None  # (hidden size, projection)
        self.mean: Tensor | None = None  # (d,)
        self.count = 0

    def size(self, hidden_size: int) -> int:
        """``d`` of the prepared contexts."""
        return (self.projection or hidden_size) + (1 if self.intercept > 0 else 0)

    def _project(self, hidden: Tensor) -> Tensor:
        hidden = aligned(hidden)
        if self.projection is None:
            return hidden
        if self._directions is None:
            generator = torch.Generator().manual_seed(hidden.shape[-1])
            shape = hidden.shape[-1], self.projection
            self._directions = torch.randn(shape, generator=generator, dtype=torch.float64) / self.projection**0.5
        return hidden @ self._directions

    def observe(self, hidden: Tensor) -> None:
        """Take hidden states into the running mean. Shape ``(B, d)``."""
        hidden = self._project(hidden)
        mean = hidden.mean(0) if self.mean is None else self.mean
        self.count += len(hidden)
        self.mean = mean + (hidden - mean).sum(0) / self.count

    def prepare(self, hidden: Tensor) -> Tensor:
        """Contexts for the bandit. Shapes ``(M, hidden size)`` to ``(M, d)``, float64."""
        projected = contexts = self._project(hidden)
        if self.center and self.mean is not None:
            contexts = contexts - self.mean
        if self.unit_norm:
            # Where the hidden state is the mean itself, float32 rounding leaves some 1e-7 of it: that is no direction.
            norm = contexts.norm(dim=-1, keepdim=True)
            noise = 1e-5 * projected.norm(dim=-1, keepdim=True)
            contexts = torch.where(norm > noise, contexts / norm.clamp(min=1e-12), 0.0)
        if self.intercept > 0:
            contexts = torch.cat([contexts, contexts.new_full((len(contexts), 1), self.intercept)], dim=-1)
        return contexts

    def state_dict(self) -> dict[str, Any]:
        """The running mean."""
        return {"mean": self.mean, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the running mean."""
        self.mean, self.count = state["mean"], state["count"]
