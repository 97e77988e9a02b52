"""Accuracy by category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class CategoryAccuracy(Metric):
    """Mean grade of responses in each category (the share of right ones if none is half right), and over categories.

    Args:
        categories: Every category that can occur, in the order of the report.
        **kwargs: Of torchmetrics' ``Metric``.

    >>> accuracy = CategoryAccuracy(["sums", "words"])
    >>> accuracy.update("sums", torch.tensor([True, True, False, False]))
    >>> accuracy.update("words", torch.tensor([True]))
    >>> {name: float(value) for name, value in accuracy.compute().items()}
    {'sums': 0.5, 'words': 1.0, 'average': 0.75}
    """

    full_state_update = False
    right: Tensor
    total: Tensor

    def __init__(self, categories: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.categories = list(categories)
        self.add_state("right", torch.zeros(len(self.categories), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(len(self.categories), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, category: str, right: Tensor) -> None:
        """Count responses of one category.

        Args:
            category: One of ``categories``.
            right: Whether each response is right, or how right, in [0, 1]. Any shape.
        """
        index = self.categories.index(category)
        self.right[index] += right.sum()
        self.total[index] += right.numel()

    def compute(self) -> dict[str, Tensor]:
        """Accuracy per category that was seen, and their unweighted mean as ``average``."""
        seen = {
            name: (self.right[index] / self.total[index]).float()
            for index, name in enumerate(self.categories)
            if self.total[index] > 0
        }
        return {**seen, "average": torch.stack(list(seen.values())).mean()} if seen else {}
