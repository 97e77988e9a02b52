"""Attention over a packing by a kernel for sequences of unlike lengths: nothing is padded and no mask is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from laser_pl.logprobs.packing import Packing

try:
    from torch.nn.attention import varlen
except ImportError:  # of an older torch
    varlen_attn: Any = None
else:
    varlen_attn = varlen.varlen_attn

NARROW = (torch.bfloat16, torch.float16)
"""Types of 16 bits."""


def kernel_on(device: torch.device) -> bool:
    """Whether this torch has the kernel on a device."""
    return varlen_attn is not None and device.type == "cuda"


def takes(query: Tensor) -> bool:
    """Whether the kernel is there for such queries: on a card, in 16 bits."""
    return kernel_on(query.device) and attention_type(query) in NARROW


def attention_type(query: Tensor) -> torch.dtype:
    """The type that attention computes in: autocast's, where that is on."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


@dataclass(frozen=True)
class Ragged:
    """Which tokens each sequence of a packing looks at, the same for all layers.

    Sequences are the shared prefix, the rest of each prompt, and each response that has tokens in the row, in the
    packing's order. The keys of a sequence are its whole text so far, in order, so the queries stand at its end.

    Attributes:
        keys: Index into the row of every sequence's keys, one after the other. Shape ``(K,)``.
        query_ends: Where each of ``S`` sequences' queries end in the row, behind a 0. Shape ``(S + 1,)``, int32.
        key_ends: The same of ``keys``.
        most_queries: Of one sequence.
        most_keys: Of one sequence.
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int

    @staticmethod
    def of(packing: Packing) -> Ragged:
        """Those of a packing."""
        prompts, responses = packing.prompt_lengths - packing.start, packing.responses.real.sum(-1)  # (B,), (R,)
        first = packing.start + prompts.cumsum(0) - prompts  # (B,)  where each prompt's rest begins in the row
        own = packing.start + prompts.sum() + responses.cumsum(0) - responses  # (R,)
        there = responses > 0
        of, own, responses = packing.prompt[there], own[there], responses[there]

        def beginning(rows: Tensor) -> list[Tensor]:
            """The shared prefix for each of so many rows, as begin and length. Shapes ``(rows,)``."""
            return [torch.zeros_like(rows), torch.full_like(rows, packing.start)]

        nothing = [torch.zeros_like(prompts), torch.zeros_like(prompts)]
        # Three pieces of the row are the keys of a sequence: the shared prefix, the prompt's rest, and its own.
        of_prompts = torch.stack([*beginning(prompts), first, prompts, *nothing], dim=1)  # (B, 6)
        of_responses = torch.stack([*beginning(of), first[of], prompts[of], own, responses], dim=1)  # (R', 6)
        of_start = torch.zeros_like(of_prompts[: 1 if packing.start else 0])  # (1 or 0, 6)
        of_start[:, 1] = packing.start
        pieces = torch.cat([of_start, of_prompts, of_responses]).view(-1, 3, 2)  # (S, 3, 2)
        queries = torch.cat([of_start[:, 1], prompts, responses])  # (S,)
        begin, length = pieces.flatten(0, 1).unbind(-1)  # (3 S,)
        shift = begin - (length.cumsum(0) - length)
        keys = torch.arange(int(length.sum()), device=length.device) + shift.repeat_interleave(length)
        seen = pieces[:, :, 1].sum(-1)  # (S,)
        return Ragged(keys, _ends(queries), _ends(seen), int(queries.max()), int(seen.max()))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
        """Queries ``(N, H, D)`` at the keys and values, ``(N, H_kv, D)``, of their texts up to themselves.

        Args:
            query: Of the row.
            key: Of the row.
            value: Of the row.
            scaling: Factor of scores; None is :math:`D^{-1/2}`.
            window: How many tokens each sees at most, itself included; None is all.

        Returns:
            Shape ``(N, H, D)``.
        """
        q, k, v = (part.to(attention_type(query)) for part in (query, key, value))
        # The kernel says how many tokens are seen before and behind a query's own; it stands at the end of its keys.
        back = -1 if window is None or window >= self.most_keys else window - 1
        grouped = {"enable_gqa": True} if _is_told_of_groups(varlen_attn) else {}
        result: Tensor = varlen_attn(
            q, k.index_select(0, self.keys), v.index_select(0, self.keys), self.query_ends, self.key_ends,
            self.most_queries, self.most_keys, scale=scaling, window_size=(back, 0), **grouped,
        )  # fmt: skip
        return result


def _ends(lengths: Tensor) -> Tensor:
    """Where sequences of these lengths end, behind a 0. Shapes ``(S,)`` to ``(S + 1,)``, int32."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


@cache
def _is_told_of_groups(kernel: Callable[..., Tensor]) -> bool:
    """Whether it wants to hear that heads share keys, as it does since torch 2.12 or 2.13."""
    return "enable_gqa" in inspect.signature(kernel).parameters
