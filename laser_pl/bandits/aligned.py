"""Vectors that lie in memory as every other: what comes of them does not depend on where they came from."""

from __future__ import annotations

import torch
from torch import Tensor


def aligned(values: Tensor) -> Tensor:
    """A contiguous copy in float64, in memory of its own.

    The last bits of a matrix product depend on where a vector begins in memory: libraries take the odd numbers before
    the first multiple of 16, 32 or 64 bytes by themselves, so a row of a matrix and its copy give other sums. Torch
    allocates at multiples of 64 bytes, so copies agree. Whatever a bandit or a scale promises bit by bit (a resumed
    run, processes that learn the same, a question that was asked before) is computed from such copies.

    Args:
        values: Of any shape, anywhere in memory.
    """
    return values.detach().to(torch.float64, copy=True, memory_format=torch.contiguous_format)
