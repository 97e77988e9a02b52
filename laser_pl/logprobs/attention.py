"""Attention in which what texts share is read once: a prompt for its responses, a shared prefix for all prompts.

transformers looks attention up by the name in the model's configuration, so a forward in which ``attending`` with an
object of this module runs the model's own code everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor
from transformers import AttentionInterface

from laser_pl.logprobs.packing import Packing
from laser_pl.logprobs.ragged import NARROW, Ragged, attention_type, takes

NAME = "laser_pl_shared_prompt"


class Attention(Protocol):
    """What computes one layer's attention."""

    def __call__(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        dropout: float,
        scaling: float | None,
        sliding_window: int | None,
    ) -> Tensor:
        """From queries ``(1 or R, H, T, D)`` and keys and values of ``H_kv`` heads to ``(1 or R, T, H, D)``."""


_attention: list[Attention] = []


@contextmanager
def attending(model: Any, attention: Attention) -> Iterator[None]:
    """Run a block in which every layer of ``model`` attends by ``attention``; no mask is made for it."""
    config = model.config
    usual = config._attn_implementation
    config._attn_implementation = NAME
    _attention.append(attention)
    try:
        yield
    finally:
        _attention.pop()
        config._attn_implementation = usual


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer."""
    # Caps, sinks and biases that a model adds to its scores are not known here; see `packed.why_not_shared`.
    for name in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise NotImplementedError(f"{type(module).__name__} wants attention with {name}")
    result = _attention[-1](module, query, key, value, dropout=dropout, scaling=scaling, sliding_window=sliding_window)
    return result, None


AttentionInterface.register(NAME, _attend)


class PackedAttention:
    """Attention over a packing: prompts look at their shared prefix and themselves, responses at both and themselves.

    The only padding of the whole forward is here, where sequences are padded to one length; none where a kernel takes
    them as they lie.

    Args:
        packing: Which token is whose.
        kernel: Whether that kernel may be used where it is there; it drops nothing out.

    Attributes:
        windows: The sliding window each call came with, in the order of layers.
    """

    def __init__(self, packing: Packing, kernel: bool = False) -> None:
        self.packing = packing
        self.kernel = kernel
        self.windows: list[int | None] = []
        self._masks: dict[tuple[Any, ...], Tensor] = {}  # one for all layers of a kind

    def __call__(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        dropout: float,
        scaling: float | None,
        sliding_window: int | None,
    ) -> Tensor:
        """See ``Attention``."""
        self.windows.append(sliding_window)
        return self.attend(query, key, value, scaling, sliding_window, dropout)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None, dropout: float
    ) -> Tensor:
        """By the form that is faster here. Shapes as of a call."""
        if self.kernel and not dropout and takes(query):
            return self.by_kernel(query, key, value, scaling, window)
        if _takes_float32(query):
            with torch.autocast("cpu", enabled=False):
                q, k, v = (part.float() for part in (query, key, value))
                return self.by_padding(q, k, v, scaling, window, dropout).to(query.dtype)
        return self.by_padding(query, key, value, scaling, window, dropout)

    @cached_property
    def _sequences(self) -> Ragged:
        return Ragged.of(self.packing)

    def by_kernel(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
        """As they lie in the row. Shapes as of a call."""
        q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))  # (N, H, D)
        return self._sequences.attend(q, k, v, scaling, window)[None]

    def by_padding(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Padded. Shapes as of a call."""
        packing = self.packing
        attend = partial(F.scaled_dot_product_attention, dropout_p=dropout, scale=scaling)
        heads, groups = query.shape[1], query.shape[1] // key.shape[1]
        # Split, not sliced: the gradient of a slice is a whole tensor of zeros with the slice in it.
        states = (torch.split(part[0].transpose(0, 1), packing.pieces) for part in (query, key, value))
        of_start, of_prompts, of_responses = zip(*states, strict=True)

        q, k, v = map(packing.prompts.padded, of_prompts)  # (B, Tp - S, H, D)
        parts = []
        if packing.start:
            start_q, start_k, start_v = (state[None] for state in of_start)  # (1, S, H, D)
            parts.append(self._to_themselves(attend, start_q, start_k, start_v, window)[0])  # (S, H, D)
            k = torch.cat([start_k.expand(len(k), -1, -1, -1), k], dim=1)  # (B, Tp, H_kv, D)
            v = torch.cat([start_v.expand(len(v), -1, -1, -1), v], dim=1)
        seen = self._to_themselves(attend, q, k, v, window)
        parts.append(packing.prompts.packed(seen))  # (Np, H, D)

        if packing.responses.index.numel():
            q, own_k, own_v = map(packing.responses.padded, of_responses)
            rows, length = q.shape[:2]  # R, Tr
            # The heads that share a key go behind one another as queries, so no key is repeated for them.
            q = q.view(rows, length, -1, groups, q.shape[-1]).permute(0, 2, 3, 1, 4).flatten(2, 3)
            # (R, H_kv, groups * Tr, D)
            k = torch.cat([k.index_select(0, packing.prompt), own_k], dim=1).transpose(1, 2)  # (R, H_kv, Tp + Tr, D)
            v = torch.cat([v.index_select(0, packing.prompt), own_v], dim=1).transpose(1, 2)
            kind = (window, q.dtype)
            if kind not in self._masks:
                self._masks[kind] = self._response_mask(*kind).repeat(1, groups, 1)[:, None]
            seen = attend(q, k, v, attn_mask=self._masks[kind])
            seen = seen.view(rows, -1, groups, length, seen.shape[-1]).permute(0, 3, 1, 2, 4)
            # (R, Tr, H_kv, groups, D)
            parts.append(packing.responses.packed(seen.reshape(rows, length, heads, -1)))
        return torch.cat(parts)[None]  # (1, N, H, D)

    def _to_themselves(self, attend: Any, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """Queries ``(B, Tq, H, D)`` at the last places of keys and values ``(B, Tp, H_kv, D)``; as the queries."""
        groups, (length, width) = query.shape[2] // key.shape[2], (query.shape[1], key.shape[1])
        repeated = [part.repeat_interleave(groups, dim=2) if groups > 1 else part for part in (key, value)]
        q, k, v = (part.transpose(1, 2) for part in (query, *repeated))  # (B, H, T, D)
        if length == width and (window is None or window >= width):
            seen: Tensor = attend(q, k, v, is_causal=True)
        else:
            kind = (length, width, window, q.dtype)
            if kind not in self._masks:
                self._masks[kind] = self._prompt_mask(*kind)
            seen = attend(q, k, v, attn_mask=self._masks[kind])
        return seen.transpose(1, 2)

    def _prompt_mask(self, length: int, width: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """Prompts begin at the same place, so none looks at what pads a shorter one. Shape ``(Tq, Tp)``."""
        steps = torch.arange(width, device=self.packing.tokens.device)
        back = steps[width - length :, None] - steps
        return _additive((back >= 0) & (back < (window or width)), dtype)

    def _response_mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Which of its prompt's and its own tokens each response token sees. Shape ``(R, Tr, Tp + Tr)``."""
        packing = self.packing
        rows, length = packing.responses.index.shape
        start = packing.prompt_lengths[packing.prompt][:, None]  # (R, 1)
        own = start + torch.arange(length, device=start.device)  # (R, Tr)  place of each token in its text
        width = packing.start + packing.prompts.index.shape[1]
        heads = torch.arange(width, device=start.device).expand(rows, -1)  # (R, Tp)
        places = torch.cat([heads, own], dim=1)  # (R, Tp + Tr)
        there = torch.cat([heads < start, own >= start], dim=1)
        back = own[:, :, None] - places[:, None]  # (R, Tr, Tp + Tr)
        allowed = there[:, None] & (back >= 0)
        return _additive(allowed if window is None else allowed & (back < window), dtype)


def _takes_float32(query: Tensor) -> bool:
    """Whether attention of 16 bits is computed in float32: a CPU takes longer for it, most of all going backward."""
    # A machine with a card is asked, too, since a plan for one lies in the host's memory.
    return query.device.type == "cpu" and not torch.cuda.is_available() and attention_type(query) in NARROW


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, -torch.inf)
