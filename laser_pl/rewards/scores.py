"""Scores as numbers, and what is missing among them."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import Scores

Missing = Counter[str]
"""How many responses got no label, by kind: ``none``, ``nan``, ``infinite``, ``timeout``, ``exception``."""


def as_tensor(scores: Scores, shape: tuple[int, int], whose: str) -> Tensor:
    """Scores as float64 on the CPU, with NaN for None.

    Args:
        scores: What a reward model returned.
        shape: The shape it should have, ``(B, n)``.
        whose: The reward model, for the message.

    Raises:
        ConfigurationError: If the shape is another, or something in it is no number.
    """
    if not isinstance(scores, Tensor):
        scores = _from_lists(scores, whose)
    if scores.shape != shape:
        raise ConfigurationError(f"{whose} returned scores of shape {tuple(scores.shape)}, expected {shape}.")
    return scores.detach().cpu().double()  # also from counts, or right and wrong


def _from_lists(scores: object, whose: str) -> Tensor:
    try:
        rows = [[float("nan") if v is None else float(v) for v in row] for row in scores]  # type: ignore[attr-defined]
        return torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"{whose} must return a tensor or lists of numbers, one for each response: {' '.join(str(error).split())}."
        ) from error


def abstentions(scores: Scores, values: Tensor) -> Tensor:
    """Where a reward model said None. Shape ``(B, n)``, bool, as of ``values``, the same by ``as_tensor``."""
    if isinstance(scores, Tensor):
        return torch.zeros_like(values, dtype=torch.bool)
    return torch.tensor([[value is None for value in row] for row in scores])


def as_lists(values: Tensor, abstained: Tensor) -> list[list[float | None]]:
    """Scores with None where there is no opinion, for reward models made of others. Shapes ``(B, n)``."""
    return [
        [None if none else value for value, none in zip(*row, strict=True)]
        for row in zip(values.tolist(), abstained.tolist(), strict=True)
    ]


def labels(scores: Scores, values: Tensor) -> tuple[Tensor, Missing]:
    """What can be used of the scores, and what is missing.

    Args:
        scores: What a reward model returned.
        values: The same by ``as_tensor``. Shape ``(B, n)``.

    Returns:
        The finite scores, NaN elsewhere, and the count of the others by kind.

    >>> scores = [[1.0, None], [float("inf"), float("nan")]]
    >>> labels(scores, as_tensor(scores, (2, 2), "it"))
    (tensor([[1., nan],
            [nan, nan]], dtype=torch.float64), Counter({'none': 1, 'nan': 1, 'infinite': 1}))
    """
    none = int(abstentions(scores, values).sum())
    counts = {"none": none, "nan": int(values.isnan().sum()) - none, "infinite": int(values.isinf().sum())}
    missing = Counter({kind: count for kind, count in counts.items() if count})
    return values.masked_fill(values.isinf(), float("nan")), missing
