"""Steps with nothing finite to learn change nothing, and end the run when they come again and again."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn.utils import get_total_norm

from laser_pl.errors import ConfigurationError
from laser_pl.messages.diverged import ADVICE
from laser_pl.runtime.sharding import whole


class StepGuard:
    """Watches a training step from its loss to the optimizer.

    Args:
        max_bad: So many bad steps in a row end the run, >= 1.

    Attributes:
        labels: What the batch has to learn from, in all processes: pairs, or scores.
        bad: What of the step was no finite number, ``loss`` or ``gradient``, if anything.
        bad_in_a_row: Steps of that kind up to now.
    """

    def __init__(self, max_bad: int) -> None:
        if max_bad < 1:
            raise ConfigurationError(f"max_bad_steps must be >= 1, got {max_bad}. Set model.max_bad_steps.")
        self.max_bad = max_bad
        self.labels = 0
        self.bad: str | None = None
        self._has_gradient = False  # from any batch since the last optimizer step
        self.bad_in_a_row = 0

    @property
    def learned(self) -> bool:
        """Whether the batch was one to learn from."""
        return self.labels > 0 and self.bad is None

    def saw_loss(self, labels: int, finite: bool, trains: bool = True) -> None:
        """Begin with a batch.

        Args:
            labels: How many it has.
            finite: Whether its loss is a finite number in every process.
            trains: Whether its gradient is to be followed; if not, the optimizer's steps change nothing.
        """
        self.labels, self.bad = labels, None if finite else "loss"
        self._has_gradient |= self.learned and trains

    def before_step(self, optimizer: torch.optim.Optimizer, parameters: Iterable[torch.Tensor], look: bool) -> None:
        """Take the gradients away if they are none to follow; an optimizer passes over parameters without one.

        Args:
            optimizer: About to step.
            parameters: What it changes.
            look: Whether gradients have to be finite. A loss scaler sees to that itself: overflows find the scale.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self._has_gradient and look and not bool(whole(get_total_norm(gradients)).isfinite()):
            self.bad, self._has_gradient = "gradient", False
        if not self._has_gradient:
            optimizer.zero_grad(set_to_none=True)
        self._has_gradient = False

    def end(self) -> None:
        """End with a batch.

        Raises:
            ConfigurationError: After ``max_bad`` bad ones in a row.
        """
        if self.labels:
            self.bad_in_a_row = self.bad_in_a_row + 1 if self.bad else 0
        if self.bad_in_a_row >= self.max_bad:
            raise ConfigurationError(
                f"{self.bad_in_a_row} steps in a row had a {self.bad} that is no finite number, and trained nothing."
                f" {ADVICE}"
            )
