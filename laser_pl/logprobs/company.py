"""Which texts may go through a model together, where what stands beside a text would change its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Turn:
    """The length at which a model's rotary frequencies change.

    Attributes:
        length: Tokens of the longest text that is read as all shorter ones are.
        gradual: Whether frequencies go on changing with every further token (dynamic NTK); else they change once
            (LongRoPE).
    """

    length: int
    gradual: bool

    @staticmethod
    def of(config: Any) -> Turn | None:
        """That of a model's text configuration; None if its frequencies never change."""
        parameters = getattr(config, "rope_parameters", None) or {}
        kinds = [parameters, *(kind for kind in parameters.values() if isinstance(kind, dict))]
        turns = [
            Turn(kind.get("original_max_position_embeddings", config.max_position_embeddings), False)
            for kind in kinds
            if kind.get("rope_type") == "longrope"
        ]
        turns += [
            Turn(config.max_position_embeddings, True) for kind in kinds if "dynamic" in (kind.get("rope_type") or "")
        ]
        return min(turns, key=lambda turn: turn.length, default=None)

    def company(self, length: int) -> int:
        """A number that is the same for lengths that are read with the same frequencies.

        >>> [Turn(8, gradual=False).company(length) for length in (3, 8, 9, 20)]
        [0, 0, 1, 1]
        >>> [Turn(8, gradual=True).company(length) for length in (3, 8, 9, 20)]
        [0, 0, 9, 20]
        """
        if length <= self.length:
            return 0
        return length if self.gradual else 1


def with_like_lengths(base: Any, lengths: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
    """One number for each text, by forwards in which no text's length touches another's numbers.

    Args:
        base: A Hugging Face causal language model, without PEFT's wrapper.
        lengths: Tokens of each text that are read. Shape ``(R,)``.
        forward: From rows of texts, ``(r,)``, to their numbers, ``(r,)``.

    Returns:
        Shape ``(R,)``.
    """
    turn = Turn.of(base.config.get_text_config())
    if turn is None:
        return forward(torch.arange(len(lengths), device=lengths.device))
    return apart([turn.company(length) for length in lengths.tolist()], forward, lengths.device)


def apart(companies: Sequence[Any], forward: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """One number for each text, by a forward for each company.

    Args:
        companies: That of each text; equal ones may be read together. Any values that can be sorted, ``R`` of them.
        forward: From rows of texts, ``(r,)``, to their numbers, ``(r,)``.
        device: Where the rows are.

    Returns:
        Shape ``(R,)``.
    """
    parts = [[row for row, own in enumerate(companies) if own == company] for company in sorted(set(companies))]
    rows = [torch.tensor(part, device=device) for part in parts]
    return torch.cat([forward(part) for part in rows])[torch.cat(rows).argsort()]


def forget_longer_texts(base: Any) -> None:
    """Dynamic NTK keeps the frequencies of the longest text that it has read; a new text is read without them."""
    turn = Turn.of(base.config.get_text_config())
    if turn is None or not turn.gradual:
        return
    for module in base.modules():
        lengths = [name for name in vars(module) if name.endswith("max_seq_len_cached")]
        longer = [name for name in lengths if getattr(module, name) > module.original_max_seq_len]
        for name in longer:  # transformers 5.0 keeps it under a name of its own
            setattr(module, name, module.original_max_seq_len)
        known = [*vars(module), *(name for name, _ in module.named_buffers(recurse=False))] if longer else []
        for name in [name for name in known if name.endswith("original_inv_freq")]:
            now, own = name.replace("original_inv_freq", "inv_freq"), getattr(module, name)
            module.register_buffer(now, own.to(getattr(module, now).device), persistent=False)
