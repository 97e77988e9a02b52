"""Where every arm's reward at one context is known, as a check of all of them tells."""

from __future__ import annotations

import torch
from torch import Tensor


def full_information(contexts: Tensor, arms: Tensor, count: int) -> Tensor:
    """Groups of observations that say of one context what every arm is worth there.

    Args:
        contexts: Shape ``(O, d)``.
        arms: Shape ``(O,)``.
        count: ``K``.

    Returns:
        Positions among the observations, in the order of the arms. Shape ``(G, K)``, int64.

    >>> full_information(torch.tensor([[1.0], [1.0], [2.0]]), torch.tensor([1, 0, 0]), 2)
    tensor([[1, 0]])
    """
    groups: dict[bytes, dict[int, int]] = {}
    for place, (context, arm) in enumerate(zip(contexts, arms.tolist(), strict=True)):
        groups.setdefault(context.contiguous().numpy().tobytes(), {})[arm] = place
    whole = [[group[arm] for arm in range(count)] for group in groups.values() if len(group) == count]
    return torch.tensor(whole, dtype=torch.long).view(-1, count)
