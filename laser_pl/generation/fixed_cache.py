"""A shared cache in which nothing changes its shape or its place from token to token, so that a card can replay one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from laser_pl.generation.shared_cache import SharedCache, SharedLayer

ALIGNED = 8
"""Widths are multiples of it: a card's matrix products are slow on rows that begin at odd places."""


class FixedLayer(SharedLayer):
    """One layer, whose responses' part is written at a place that lies in a tensor.

    Args:
        keys: The prompts' keys. Shape ``(B, H_kv, Tp, D)``.
        values: The prompts' values.
        past: How many tokens the prompts' part stands for, padding included.
        room: How many tokens a response may have.
        step: The place of the next token among its response's. Shape ``(1,)``, int64.
    """

    def __init__(self, keys: Tensor, values: Tensor, past: int, room: int, step: Tensor) -> None:
        super().__init__(_aligned(keys), _aligned(values), past, room)
        self.step = step
        self.width = room

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the next token's states, ``(R, H_kv, 1, D)``; returns all columns that are looked at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            rows, heads, _, size = key_states.shape
            # Zeros, since what is hidden still takes part in products.
            self.keys = key_states.new_zeros(rows, heads, self.room, size)
            self.values = value_states.new_zeros(rows, heads, self.room, value_states.shape[-1])
        self.keys.index_copy_(2, self.step, key_states)
        self.values.index_copy_(2, self.step, value_states)
        return self.keys[:, :, : self.width], self.values[:, :, : self.width]


class FixedCache(SharedCache):
    """All layers, and the attention that goes with them: what lies behind a token is hidden by its place.

    Args:
        prompts: Keys and values of each layer, of all prompt tokens but the last.
        mask: 1 for a real token of those. Shape ``(B, Tp)``.
        n: Responses per prompt.
        room: How many tokens a response may have, the prompt's last one included.

    Attributes:
        step: The place of the next token among its response's. Shape ``(1,)``, int64.
    """

    def __init__(self, prompts: list[tuple[Tensor, Tensor]], mask: Tensor, n: int, room: int) -> None:
        self.step = torch.zeros(1, dtype=torch.long, device=mask.device)
        super().__init__(prompts, torch.nn.functional.pad(mask, (_missing(mask.shape[1]), 0)), n, room)
        self.layers = [FixedLayer(*states, mask.shape[1], room, self.step) for states in prompts]

    def look_at(self, width: int) -> None:
        """Let tokens see no more than the first columns of their responses."""
        for layer in self.layers:
            layer.width = width

    def begin(self) -> None:
        """Forget what was hidden from the last token; to be called before each forward."""
        self.hidden_by: dict[tuple[int | None, int, int], Tensor] = {}

    def advance(self) -> None:
        """Go on to the next token."""
        self.step.add_(1)
        for layer in self.layers:
            layer.length += 1

    def seen(self, layer: Any, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """As the parent's, in as few kernels as there is need for."""
        width = key.shape[2]
        asked = self.places.padded(query).permute(0, 2, 1, 3, 4)  # (B, H_kv, n, G, D)
        shape = asked.shape
        head = asked.flatten(2, 3) @ layer.prompt_keys.transpose(2, 3)  # (B, H_kv, n * G, Tp)
        past = head.shape[-1]
        head = head.view(*shape[:4], past).transpose(1, 2)  # (B, n, H_kv, G, Tp)
        scores = query.new_empty(*query.shape[:3], past + width)  # (R, H_kv, G, Tp + t)
        if self.places.dense:
            self.places.padded(scores)[..., :past] = head
        else:
            scores[..., :past] = self.places.packed(head)
        own = scores[..., past:].flatten(0, 1)  # (R * H_kv, G, t)
        torch.bmm(query.flatten(0, 1), key.to(query.dtype).flatten(0, 1).transpose(1, 2), out=own)
        weights = scores.masked_fill_(self.hidden(window, past, width), -torch.inf).softmax(-1)
        to_prompt, to_own = torch.split(weights, [past, width], dim=-1)
        asked = self.places.padded(to_prompt).transpose(1, 2).flatten(2, 3)  # (B, H_kv, n * G, Tp)
        seen = (asked @ layer.prompt_values).view(*shape[:4], -1).transpose(1, 2)  # (B, n, H_kv, G, D)
        result: Tensor = self.places.packed(self.places.padded(to_own @ value) + seen)  # (R, H_kv, G, D)
        return result

    def hidden(self, window: int | None, past: int, width: int) -> Tensor:
        """What is padding, behind the present token, or has left the window. Shape ``(R, 1, 1, Tp + t)``."""
        kind = (window, past, width)
        if kind not in self.hidden_by:
            prompts = ~self.mask[:, -past:]  # (B, Tp)
            back = self.step - torch.arange(width, device=self.step.device)  # (t,)
            own = back < 0
            if window is not None:
                present = self.positions[:, -1:] + 1 + self.step  # (B, 1)  place of the token that asks
                prompts = prompts | (present - self.positions[:, -past:] >= window)
                own = own | (back >= window)
            both = torch.cat([prompts[self.owner], own.expand(len(self.owner), -1)], dim=1)
            self.hidden_by[kind] = both[:, None, None]
        return self.hidden_by[kind]


def _missing(width: int) -> int:
    return -width % ALIGNED


def _aligned(states: Tensor) -> Tensor:
    """With zeros before the first column, which nobody sees. Shape ``(B, H_kv, Tp, D)``."""
    return torch.nn.functional.pad(states, (0, 0, _missing(states.shape[2]), 0))
