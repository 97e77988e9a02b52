"""From sampled tokens to responses: cut where they end, and decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import Responses
from laser_pl.generation.ends import lengths_to
from laser_pl.generation.stop_strings import stopped
from laser_pl.generation.text import text_of


def responses_of(
    tokens: Tensor, eos: list[int], stops: Sequence[str], tokenizer: Any, written: Tensor | None = None
) -> Responses:
    """Cut responses behind the first EOS, or the token that completes the first stop string, and decode them.

    Args:
        tokens: Sampled ids. Shape ``(B, n, T)``.
        eos: Ids that end a response.
        stops: Texts that do.
        tokenizer: Decodes them, and has PAD.
        written: How many tokens of each were sampled, where what follows is padding; None: all, or up to an EOS. Shape
            ``(B, n)``.
    """
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    there = torch.ones_like(tokens, dtype=torch.bool) if written is None else place < written[..., None]
    is_eos = there & torch.isin(tokens, torch.tensor(eos, device=tokens.device))
    lengths, finished = lengths_to(is_eos).minimum(there.sum(-1)), is_eos.any(-1)  # (B, n)
    texts: list[list[str]] = []
    for row, (every, long) in enumerate(zip(tokens.tolist(), lengths.tolist(), strict=True)):
        texts.append([])
        for i, (ids, length) in enumerate(zip(every, long, strict=True)):
            found = stopped(tokenizer, ids[:length], eos, stops) if stops else None
            if found is not None:
                lengths[row, i], finished[row, i] = found[0], True
            texts[row].append(text_of(tokenizer, ids[:length], eos) if found is None else found[1])
    mask = place < lengths[..., None]  # (B, n, T)
    return Responses(tokens.masked_fill(~mask, tokenizer.pad_token_id), mask.long(), finished, texts)
