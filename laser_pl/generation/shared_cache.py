"""A KV cache in which a prompt's keys and values lie once, whatever the number of its responses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from laser_pl.logprobs.packing import Places
from laser_pl.logprobs.padded import position_ids


class SharedLayer(DynamicLayer):  # type: ignore[misc]
    """One layer: the prompts' part, and room for what each response adds, written in place.

    transformers' own layers copy the whole cache for every token, and hold a prompt once for each of its responses.

    Args:
        keys: The prompts' keys. Shape ``(B, H_kv, Tp, D)``, or the last of them where a window drops the past.
        values: The prompts' values, of the same shape.
        past: How many tokens the prompts' part stands for, padding included.
        room: How many tokens a response may have.
    """

    is_croppable = False

    def __init__(self, keys: Tensor, values: Tensor, past: int, room: int) -> None:
        super().__init__()
        self.prompt_keys, self.prompt_values = keys, values
        self.past = past
        self.room = room
        self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the next token's states, ``(R, H_kv, 1, D)``; returns all of the responses', ``(R, H_kv, t, D)``."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            rows, heads, _, size = key_states.shape
            self.keys = key_states.new_empty(rows, heads, self.room, size)
            self.values = value_states.new_empty(rows, heads, self.room, value_states.shape[-1])
        before, self.length = self.length, self.length + key_states.shape[2]
        self.keys[:, :, before : self.length] = key_states
        self.values[:, :, before : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        """Tokens so far, the prompt's included."""
        return self.past + self.length

    def keep(self, rows: Tensor) -> None:
        """Forget all responses but these."""
        self.keys, self.values = self.keys[rows], self.values[rows]


class SharedCache(Cache):  # type: ignore[misc]
    """All layers, and the attention that goes with them; see ``laser_pl.logprobs.attention.attending``.

    Args:
        prompts: Keys and values of each layer, of all prompt tokens but the last.
        mask: 1 for a real token of those. Shape ``(B, Tp)``.
        n: Responses per prompt.
        room: How many tokens a response may have, the prompt's last one included.
    """

    def __init__(self, prompts: list[tuple[Tensor, Tensor]], mask: Tensor, n: int, room: int) -> None:
        super().__init__(layers=[SharedLayer(*states, mask.shape[1], room) for states in prompts])
        self.mask = mask.bool()
        self.owner = torch.arange(len(mask), device=mask.device).repeat_interleave(n)  # (R,)
        self.positions = position_ids(mask)  # (B, Tp)
        self._lay_out()

    def _lay_out(self) -> None:
        self.places = Places.of(torch.bincount(self.owner, minlength=len(self.mask)))
        self.masks: dict[tuple[int | None, int, int], Tensor | None] = {}

    def keep(self, rows: Tensor) -> None:
        """Forget all responses but these, given in ascending order."""
        self.owner = self.owner[rows]
        for layer in self.layers:
            layer.keep(rows)
        self._lay_out()

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
        """Attention of one new token of each response, to its prompt and to what it wrote."""
        rows, heads, _, size = query.shape
        kv_heads = key.shape[1]
        query = query.view(rows, kv_heads, heads // kv_heads, size) * (size**-0.5 if scaling is None else scaling)
        seen = self.seen(self.layers[module.layer_idx], query, key, value, sliding_window)
        return seen.reshape(rows, 1, heads, -1)

    def seen(self, layer: Any, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """What scaled queries ``(R, H_kv, G, D)`` find, as they come; keys and values are the responses' own."""
        if window is not None:  # the present token counts
            key, value = key[:, :, -window:], value[:, :, -window:]
        own = query @ key.transpose(2, 3)  # (R, H_kv, G, t)
        # All responses of a prompt look at its keys in one product, so these are read once.
        asked = self.places.padded(query).permute(0, 2, 1, 3, 4)  # (B, H_kv, n, G, D)
        shape = asked.shape
        head = asked.flatten(2, 3) @ layer.prompt_keys.transpose(2, 3)  # (B, H_kv, n * G, Tp)
        mask = self.prompt_mask(window, layer.length, head.shape[-1])
        if mask is not None:
            head = head.masked_fill(mask, -torch.inf)
        head = head.view(*shape[:4], -1).transpose(1, 2)  # (B, n, H_kv, G, Tp)
        scores = torch.cat([self.places.packed(head), own], dim=-1)  # (R, H_kv, G, Tp + t)
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
        to_prompt, to_own = torch.split(weights, [head.shape[-1], own.shape[-1]], dim=-1)
        asked = self.places.padded(to_prompt).transpose(1, 2).flatten(2, 3)  # (B, H_kv, n * G, Tp)
        seen = (asked @ layer.prompt_values).view(*shape[:4], -1).transpose(1, 2)  # (B, n, H_kv, G, D)
        result: Tensor = self.places.packed(seen) + to_own @ value  # (R, H_kv, G, D)
        return result

    def prompt_mask(self, window: int | None, length: int, width: int) -> Tensor | None:
        """What of the prompts is padding or has left the window. Shape ``(B, 1, 1, Tp)``; None for nothing."""
        kind = (window, length if window is not None else 0, width)
        if kind not in self.masks:
            hidden = ~self.mask[:, -width:]
            if window is not None:
                present = self.positions[:, -1:] + length  # (B, 1)  place of the token that asks
                hidden = hidden | (present - self.positions[:, -width:] >= window)
            self.masks[kind] = hidden[:, None, None] if bool(hidden.any()) else None
        return self.masks[kind]
