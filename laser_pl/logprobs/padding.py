"""Token ids of several texts as one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad_right(ids: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and mask, padded on the right. Shapes ``(R, T)``."""
    width = max(map(len, ids))
    tokens = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in ids], device=device)
    lengths = torch.tensor([len(row) for row in ids], device=device)
    return tokens, (torch.arange(width, device=device) < lengths[:, None]).long()


def pad_left(ids: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and mask, padded on the left. Shapes ``(R, T)``."""
    tokens, mask = pad_right([row[::-1] for row in ids], pad_id, device)
    return tokens.flip(-1), mask.flip(-1)
