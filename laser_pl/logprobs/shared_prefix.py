"""What all prompts begin with: a system's message, examples."""

from __future__ import annotations

import torch
from torch import Tensor

SHARED_PREFIX_FROM = 16
"""Tokens from which a shared prefix is worth a reading of its own."""


def shared_prefix(tokens: Tensor, mask: Tensor) -> int:
    """How many tokens all prompts begin with; 0 where they are too few to gain by, or there is one prompt.

    Two tokens of each prompt at least stay behind it: its last, and one before that.

    Args:
        tokens: Prompts, padded on the left. Shape ``(B, T)``.
        mask: 1 for a real token. Shape ``(B, T)``.
    """
    if len(tokens) < 2:
        return 0
    from_first = padded_right(tokens, mask)
    same = int((from_first == from_first[:1]).all(0).cumprod(0).sum())
    start = min(same, int(mask.sum(-1).min()) - 2)
    return start if start >= SHARED_PREFIX_FROM else 0


def padded_right(tokens: Tensor, mask: Tensor) -> Tensor:
    """Each text's tokens from the first column on, what pads it on the left behind them. Shape ``(B, T)``.

    Args:
        tokens: Texts. Shape ``(B, T)``.
        mask: 1 for a real token; columns behind its last are taken for real ones. Shape ``(B, Tp)``, ``Tp <= T``.
    """
    width = tokens.shape[1]
    padding = (mask == 0).sum(-1, keepdim=True)  # (B, 1)
    return tokens.gather(1, (torch.arange(width, device=tokens.device) + padding) % width)
