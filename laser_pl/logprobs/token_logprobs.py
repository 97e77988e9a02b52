"""Log-probabilities of single tokens from hidden states, some rows at a time."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from laser_pl.logprobs.text_decoder import Head

NUMBERS_PER_CHUNK = 2**23
"""Logits that exist at once; 32 MB in float32."""

MORE_ON_A_CARD = 4
"""Times as many. Of a vocabulary of 128k it would be 65 tokens', for which a card waits for the head's weights."""


def token_logprobs(head: Head, hidden: Tensor, target: Tensor) -> Tensor:
    """Log-probability of each target.

    Logits exist for some rows at a time, forward and backward. Where the head is frozen, the gradient of every row's
    log-probability is computed with it, while its logits are there, and only scaled in the backward pass.

    Args:
        head: From hidden states ``(Y, h)`` to logits ``(Y, V)``.
        hidden: The hidden states that predict. Shape ``(Y, h)``.
        target: Token ids. Shape ``(Y,)``.

    Returns:
        Nats, in float32 or wider. Shape ``(Y,)``.
    """
    # A machine with a card is asked, not a tensor on it, so that a plan, which has none, counts the same.
    numbers = NUMBERS_PER_CHUNK * (MORE_ON_A_CARD if torch.cuda.is_available() else 1)
    rows = max(1, numbers // head.vocabulary)
    chunks = list(zip(torch.split(hidden, rows), torch.split(target, rows), strict=True))
    if not torch.is_grad_enabled():
        return torch.cat([_logprobs(head, *chunk) for chunk in chunks])
    if not head.frozen:
        return torch.cat([checkpoint(_logprobs, head, *chunk, use_reentrant=False) for chunk in chunks])
    result: Tensor = _FrozenHead.apply(hidden, target, head, rows)  # type: ignore[no-untyped-call]
    return result


def _logprobs(head: Head, hidden: Tensor, target: Tensor) -> Tensor:
    logits = head.logits(hidden)  # (rows, V)
    return -F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), target, reduction="none")


class _FrozenHead(torch.autograd.Function):
    """A head without gradient: nothing of the vocabulary's size is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, target: Tensor, head: Head, rows: int) -> Tensor:
        results: list[Tensor] = []
        gradients: list[Tensor] = []
        for states, ids in zip(torch.split(hidden, rows), torch.split(target, rows), strict=True):
            # Under activation checkpointing hooks would keep nothing of it either, and read the whole text once more.
            with torch.enable_grad(), saved_tensors_hooks(_itself, _itself):
                states = states.detach().requires_grad_()
                logprobs = _logprobs(head, states, ids)
                gradients += torch.autograd.grad(logprobs.sum(), states)
            results.append(logprobs.detach())
        ctx.save_for_backward(torch.cat(gradients))  # (Y, h)
        return torch.cat(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (upstream[:, None] * gradient).to(gradient.dtype), None, None, None


def _itself(saved: Tensor) -> Tensor:
    return saved
