"""What a model makes of a prompt: the hidden state of its last token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from laser_pl.logprobs.company import with_like_lengths
from laser_pl.logprobs.kernel_trial import kernel_suits
from laser_pl.logprobs.manner import manner_of
from laser_pl.logprobs.packed import packed_states
from laser_pl.logprobs.packing import pack
from laser_pl.logprobs.shared_prefix import padded_right, shared_prefix
from laser_pl.logprobs.text_decoder import without_wrapper


def prompt_contexts(model: Any, tokens: Tensor, mask: Tensor, share: bool) -> Tensor:
    """The hidden state of each prompt's last token after the final norm; its logits, where they are all there is.

    Args:
        model: A Hugging Face causal language model, inside PEFT's wrapper or not.
        tokens: Prompts, padded on the left. Shape ``(B, T)``.
        mask: 1 for a real token. Shape ``(B, T)``.
        share: Read what all prompts begin with once; the model must allow it (``why_not_shared``).

    Returns:
        In float32. Shape ``(B, d)``.
    """
    base = without_wrapper(model)
    read = _from_packing if share else _from_padding
    return with_like_lengths(base, mask.sum(-1), lambda rows: read(base, tokens[rows], mask[rows]).float())


def _from_packing(base: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """By a packing with a response of one token to each prompt: the state that predicts it is the prompt's last."""
    responses = tokens[:, -1:], torch.ones_like(mask[:, -1:])
    prompt = torch.arange(len(tokens), device=tokens.device)
    packing = pack(tokens, mask, prompt, *responses, start=shared_prefix(tokens, mask))
    return packed_states(base, packing, kernel=kernel_suits(base))


def _from_padding(base: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    lengths = mask.sum(-1)
    width = int(lengths.max())
    whole, whole_mask = padded_right(tokens, mask)[:, :width], mask.sort(dim=-1, descending=True).values[:, :width]
    hidden = manner_of(base).states(base, whole, whole_mask)
    return hidden[torch.arange(len(tokens), device=tokens.device), lengths - 1]
