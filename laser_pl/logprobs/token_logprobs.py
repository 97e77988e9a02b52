"""Log-probabilities of single tokens from hidden states, some rows at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from laser_pl.logprobs.text_decoder import Head

NUMBERS_PER_CHUNK = 2**24
"""Logits that exist at once, and as many of their derivatives; with fewer rows a product runs at a lower rate."""

NUMBERS_PER_BLOCK = 2**20
"""Logits that are normalised at once, in float32 or wider; these 4 MB stay in a CPU's cache."""

MORE_ON_A_CARD = 4
"""Times as many. Of a vocabulary of 128k it would be 128 tokens', for which a card waits for the head's weights."""


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
    rows = _rows(NUMBERS_PER_CHUNK, head.vocabulary)
    chunks = list(zip(torch.split(hidden, rows), torch.split(target, rows), strict=True))
    if not torch.is_grad_enabled():
        return torch.cat([_normalised(head.logits(states), ids) for states, ids in chunks])
    if not head.frozen:
        return torch.cat([checkpoint(_logprobs, head, *chunk, use_reentrant=False) for chunk in chunks])
    result: Tensor = _FrozenHead.apply(hidden, target, head, rows)  # type: ignore[no-untyped-call]
    return result


def _rows(numbers: int, vocabulary: int) -> int:
    # A machine with a card is asked, not a tensor on it, so that a plan, which has none, counts the same.
    return max(1, numbers * (MORE_ON_A_CARD if torch.cuda.is_available() else 1) // vocabulary)


def _logprobs(head: Head, hidden: Tensor, target: Tensor) -> Tensor:
    return _chosen(head.logits(hidden), target)[0]


def _chosen(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The log-probability of each target, ``(rows,)``, and those of all ids, ``(rows, V)``."""
    each = torch.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return each.gather(-1, target[:, None]).squeeze(-1), each


def _normalised(logits: Tensor, target: Tensor, slopes: Tensor | None = None) -> Tensor:
    """Log-probabilities of the targets, block by block.

    Args:
        logits: Without a graph. Shape ``(rows, V)``.
        target: Token ids. Shape ``(rows,)``.
        slopes: Where given, what minus their derivatives by the logits are written to. Shape ``(rows, V)``.

    Returns:
        Shape ``(rows,)``.
    """
    block = _rows(NUMBERS_PER_BLOCK, logits.shape[-1])
    results: list[Tensor] = []
    blocks = zip(torch.split(logits, block), torch.split(target, block), strict=True)
    for number, (part, ids) in enumerate(blocks):
        found, each = _chosen(part, ids)
        results.append(found)
        if slopes is not None:
            # softmax minus one at the target, which is exp(log p) - 1 there.
            slope = each.exp_().scatter_(-1, ids[:, None], found.expm1()[:, None])
            slopes[number * block :][: len(ids)] = slope
    return torch.cat(results)


class _FrozenHead(torch.autograd.Function):
    """A head without gradient: nothing of the vocabulary's size is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, target: Tensor, head: Head, rows: int) -> Tensor:
        results: list[Tensor] = []
        gradients: list[Tensor] = []
        slopes: Tensor | None = None  # one for all chunks, as fresh memory costs a CPU as much as what is done in it
        for states, ids in zip(torch.split(hidden, rows), torch.split(target, rows), strict=True):
            # Under activation checkpointing hooks would keep nothing of it either, and read the whole text once more.
            with torch.enable_grad(), saved_tensors_hooks(_itself, _itself):
                states = states.detach().requires_grad_()
                logits = head.logits(states)  # (rows, V)
                slopes = torch.empty_like(logits) if slopes is None else slopes[: len(logits)]
                results.append(_normalised(logits.detach(), ids, slopes))
                (against,) = torch.autograd.grad(logits, states, slopes)
            gradients.append(-against)
        ctx.save_for_backward(torch.cat(gradients))  # (Y, h)
        return torch.cat(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (upstream[:, None] * gradient).to(gradient.dtype), None, None, None


def _itself(saved: Tensor) -> Tensor:
    return saved
