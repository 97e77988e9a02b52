"""Reading prompts into a KV cache, what all of them begin with only once."""

from __future__ import annotations

from typing import Any

import torch

from laser_pl.batches import PromptBatch
from laser_pl.logprobs.company import Turn
from laser_pl.logprobs.packed import windows_of
from laser_pl.logprobs.padded import position_ids
from laser_pl.logprobs.shared_prefix import padded_right
from laser_pl.logprobs.text_decoder import decode, text_decoder


def side_by_side(prompts: PromptBatch, start: int) -> PromptBatch:
    """The prompts with their shared prefix in the same columns, and their padding between it and the rest.

    Reading them gives the same as before, since padding is hidden wherever it stands and positions do not count it.
    """
    columns = torch.arange(prompts.tokens.shape[1], device=prompts.tokens.device)
    padding = (prompts.mask == 0).sum(-1, keepdim=True)  # (B, 1)
    mask = (columns < start) | (columns >= start + padding)
    common = padded_right(prompts.tokens, prompts.mask)[:, :start]
    tokens = torch.cat([common, prompts.tokens[:, start:]], dim=-1)
    return PromptBatch(prompts.prompts, tokens, mask.long())


def may_share_prefix(model: Any, width: int) -> bool:
    """Whether padding may lie between tokens: a sliding window counts columns, so it must span all ``width``.

    Nor may the start have other rotary frequencies when it is read by itself.
    """
    config = model.config.get_text_config()
    turn = Turn.of(config)
    return all(window is None or window >= width for window in windows_of(config)) and (
        turn is None or width <= turn.length
    )


def read_prompts(model: Any, prompts: PromptBatch, start: int = 0) -> Any:
    """KV cache of all prompt tokens but the last, which is read with the responses; None of prompts of one token.

    Args:
        model: A Hugging Face causal language model.
        prompts: ``B`` prompts.
        start: Columns that are the same in all prompts, and are read once.
    """
    decoder = text_decoder(model)
    cache: Any = None
    if start:
        output, _ = decode(model, decoder, 1, input_ids=prompts.tokens[:1, :start], use_cache=True)
        cache = output.past_key_values
        cache.batch_repeat_interleave(len(prompts))
    if prompts.tokens.shape[1] > 1:
        output, _ = decode(
            model,
            decoder,
            1,
            input_ids=prompts.tokens[:, start:-1],
            attention_mask=prompts.mask[:, :-1],
            position_ids=position_ids(prompts.mask)[:, start:-1],
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
    return cache
