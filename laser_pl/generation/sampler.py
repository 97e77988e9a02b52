"""Sampling n responses to each prompt from one reading of the prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from laser_pl import progress
from laser_pl.batches import PromptBatch, Responses
from laser_pl.errors import ConfigurationError
from laser_pl.generation.ends import end_ids
from laser_pl.generation.inverse_cdf import Draw
from laser_pl.generation.prompt_reading import may_share_start, read_prompts, side_by_side
from laser_pl.generation.shared_cache import SharedCache
from laser_pl.generation.stop_strings import TOKENS_BETWEEN_LOOKS, StopStrings, stopped
from laser_pl.generation.text import text_of, unknown_ids
from laser_pl.reading.attention import attending
from laser_pl.reading.common_start import common_start
from laser_pl.reading.modes import evaluating
from laser_pl.reading.shared_prompt import why_attention_is_its_own
from laser_pl.seeds import derive_seed


@dataclass
class Sampling:
    """How responses are sampled. Defaults are the paper's.

    Attributes:
        n: Responses per prompt.
        temperature: Softmax temperature; 0 takes the likeliest token.
        top_p: Nucleus mass; 1 keeps the whole vocabulary.
        max_new_tokens: Longest response in tokens, EOS included.
        tokens_at_once: Most tokens sampled together, prompts and longest responses. Prompts that exceed it are sampled
            in batches of like length, from other random numbers; a single prompt may exceed it.
        stop: Texts that end a response, as EOS does, where one first appears. Its text is cut before the string.
    """

    n: int = 30
    temperature: float = 0.8
    top_p: float = 1.0
    max_new_tokens: int = 256
    tokens_at_once: int = 262144
    stop: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigurationError(f"n must be >= 1, got {self.n}. Set the number of responses per prompt.")
        if not 0 <= self.temperature < math.inf:
            raise ConfigurationError(f"temperature must be >= 0 and finite, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.max_new_tokens < 1:
            raise ConfigurationError(f"max_new_tokens must be >= 1, got {self.max_new_tokens}.")
        if self.tokens_at_once < 1:
            raise ConfigurationError(f"tokens_at_once must be >= 1, got {self.tokens_at_once}.")
        if "" in self.stop:
            raise ConfigurationError("stop holds an empty text, which every response contains. Take it out.")


@contextmanager
def _bare_generation_config(model: Any) -> Iterator[None]:
    """What ships with the weights (repetition penalty, beams, min_p) would sample something else."""
    shipped = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = shipped


def sample(model: Any, tokenizer: Any, prompts: PromptBatch, sampling: Sampling, seed: int) -> tuple[Responses, Tensor]:
    """Sample ``n`` responses to each prompt.

    The prompt is read once: all its tokens but the last fill a KV cache that its ``n`` responses share, or that is
    repeated where the model's attention does not allow that. What all prompts begin with is read once for all of them.
    The last token's hidden state is the context. PAD is never sampled, since an empty response has no log-probability
    per token, nor is an id that is no token of the tokenizer's, since it says nothing.

    Args:
        model: A Hugging Face causal language model, on the prompts' device.
        tokenizer: Its tokenizer, with PAD and EOS.
        prompts: ``B`` prompts.
        sampling: How.
        seed: Where the random numbers start; the caller's random state is left alone.

    Returns:
        The responses, and the hidden state of each prompt's last token after the final norm, ``(B, d)`` in float32.
    """
    batches = sampled_together(prompts, sampling)
    eos = end_ids(model.generation_config, tokenizer)
    if len(batches) == 1:
        tokens, contexts = _sample(model, tokenizer, prompts, sampling, eos, seed)
        return _responses(tokens, eos, sampling.stop, tokenizer), contexts
    pad = tokenizer.pad_token_id
    tokens = prompts.tokens.new_full((len(prompts), sampling.n, sampling.max_new_tokens), pad)
    contexts_of: dict[int, Tensor] = {}
    longest = 0
    for number, rows in enumerate(batches):
        found, hidden = _sample(model, tokenizer, _rows(prompts, rows), sampling, eos, derive_seed(seed, number))
        longest = max(longest, found.shape[-1])
        tokens[rows, :, : found.shape[-1]] = found
        contexts_of |= zip(rows, hidden, strict=True)
    contexts = torch.stack([contexts_of[row] for row in range(len(prompts))])  # (B, d)
    return _responses(tokens[..., :longest], eos, sampling.stop, tokenizer), contexts


def sampled_together(prompts: PromptBatch, sampling: Sampling) -> list[list[int]]:
    """Rows of prompts to sample together: all, or as many of like length as the bound allows."""
    lengths = prompts.mask.sum(-1).tolist()
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        tokens = (len(batches[-1]) + 1 if batches else 1) * (lengths[row] + sampling.n * sampling.max_new_tokens)
        if not batches or tokens > sampling.tokens_at_once:
            batches.append([])
        batches[-1].append(row)
    return batches


def _rows(prompts: PromptBatch, rows: list[int]) -> PromptBatch:
    """Some of the prompts, with no more padding than they need."""
    some = prompts.part(rows)
    width = int(some.mask.sum(-1).max())
    return PromptBatch(some.prompts, some.tokens[:, -width:], some.mask[:, -width:])


def _sample(
    model: Any, tokenizer: Any, prompts: PromptBatch, sampling: Sampling, eos: list[int], seed: int
) -> tuple[Tensor, Tensor]:
    """One batch: token ids ``(B, n, T)``, to be cut where they end, and contexts ``(B, d)``."""
    pad, width = tokenizer.pad_token_id, prompts.tokens.shape[1]
    size = model.config.get_text_config().vocab_size
    never = sorted({pad, *unknown_ids(tokenizer, size)}.difference(eos))
    draws: list[Draw] = []
    if sampling.temperature > 0:
        numbers = _numbers(sampling.max_new_tokens, len(prompts) * sampling.n, seed).to(prompts.tokens.device)
        draws = [Draw(numbers, width, sampling.temperature, sampling.top_p, never)]
    stops = StopStrings(tokenizer, sampling.stop, width)
    choice: dict[str, Any] = {
        "do_sample": False,  # the likeliest token, or what was drawn
        "logits_processor": draws,
        "suppress_tokens": None if draws or not never else never,
        "pad_token_id": pad,
        "eos_token_id": eos,
    }
    with evaluating(model), _bare_generation_config(model):
        shares = why_attention_is_its_own(model) is None
        start = common_start(prompts.tokens, prompts.mask) if shares and may_share_start(model, width) else 0
        prompts = side_by_side(prompts, start)
        cache, contexts = read_prompts(model, prompts, shares, start)
        if cache is not None and shares:
            tokens = _continue_shared(model, prompts, cache, sampling, eos, stops, choice)  # (B * n, T)
        else:
            if cache is not None:
                cache.batch_repeat_interleave(sampling.n)
            tokens = model.generate(
                input_ids=prompts.tokens.repeat_interleave(sampling.n, dim=0),
                attention_mask=prompts.mask.repeat_interleave(sampling.n, dim=0),
                past_key_values=cache,
                max_new_tokens=sampling.max_new_tokens,
                stopping_criteria=[stops],
                **choice,
            )[:, width:]
            progress.advance(len(tokens))
    return tokens.view(len(prompts), sampling.n, -1), contexts


def _continue_shared(
    model: Any,
    prompts: PromptBatch,
    cache: Any,
    sampling: Sampling,
    eos: list[int],
    stops: StopStrings,
    choice: dict[str, Any],
) -> Tensor:
    """Generate from prompts whose keys and values lie once; responses that have ended leave the batch now and then.

    Each response draws by its own random numbers, which are those of plain generation whoever leaves.

    Returns:
        What was sampled, with PAD behind the end. Shape ``(B * n, T)``.
    """
    width, ends = prompts.tokens.shape[1], torch.tensor(eos, device=prompts.tokens.device)
    layers = [(layer.keys, layer.values) for layer in cache.layers]
    shared = SharedCache(layers, prompts.mask[:, :-1], sampling.n, sampling.max_new_tokens)
    texts = prompts.tokens.repeat_interleave(sampling.n, dim=0)  # (R, Tp + t)
    mask = prompts.mask.repeat_interleave(sampling.n, dim=0)
    result = texts.new_full((len(texts), sampling.max_new_tokens), choice["pad_token_id"])
    rows = torch.arange(len(texts), device=texts.device)  # of those still under way
    written = 0
    with attending(model, shared):
        while written < sampling.max_new_tokens and len(rows):
            texts = model.generate(
                input_ids=texts,
                attention_mask=mask,
                past_key_values=shared,
                max_new_tokens=min(TOKENS_BETWEEN_LOOKS, sampling.max_new_tokens - written),
                **choice,
            )
            before, written = written, texts.shape[1] - width
            result[rows, :written] = texts[:, width:]
            ended = torch.isin(texts[:, width:], ends).any(-1) | stops.ended(texts[:, width:])
            going = (~ended).nonzero().squeeze(-1)
            # A response counts by how much of the longest it has, and as a whole once it has ended.
            further, rest = written - before, sampling.max_new_tokens - written
            progress.advance((len(rows) * further + (len(rows) - len(going)) * rest) / sampling.max_new_tokens)
            if len(going) < len(rows):
                rows, texts = rows[going], texts[going]
                shared.keep(going)
                for draw in choice["logits_processor"]:
                    draw.keep(going)
            mask = torch.cat([prompts.mask[shared.owner], torch.ones_like(texts[:, width:])], dim=-1)
    return result[:, :written]


def _numbers(tokens: int, rows: int, seed: int) -> Tensor:
    """Uniform in [0, 1) for each token of each row, ``(T, R)`` in float64. With more tokens the first stay the same."""
    return torch.rand(tokens, rows, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _responses(tokens: Tensor, eos: list[int], stops: list[str], tokenizer: Any) -> Responses:
    """Cut responses behind the first EOS, or the token that completes the first stop string, and decode them."""
    is_eos = torch.isin(tokens, torch.tensor(eos, device=tokens.device))
    lengths, finished = (is_eos.cumsum(-1) - is_eos.long() == 0).sum(-1), is_eos.any(-1)  # (B, n)
    texts: list[list[str]] = []
    for row, (every, long) in enumerate(zip(tokens.tolist(), lengths.tolist(), strict=True)):
        texts.append([])
        for i, (ids, length) in enumerate(zip(every, long, strict=True)):
            found = stopped(tokenizer, ids[:length], eos, stops) if stops else None
            if found is not None:
                lengths[row, i], finished[row, i] = found[0], True
            texts[row].append(text_of(tokenizer, ids[:length], eos) if found is None else found[1])
    mask = torch.arange(tokens.shape[-1], device=tokens.device) < lengths[..., None]  # (B, n, T)
    return Responses(tokens.masked_fill(~mask, tokenizer.pad_token_id), mask.long(), finished, texts)
