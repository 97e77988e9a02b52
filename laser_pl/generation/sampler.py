"""Sampling n responses to each prompt from one reading of the prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import PromptBatch, Responses
from laser_pl.errors import ConfigurationError
from laser_pl.generation.ends import end_ids, lengths_to
from laser_pl.generation.inverse_cdf import Draw
from laser_pl.generation.stop_strings import StopStrings, stopped
from laser_pl.generation.text import text_of, unknown_ids
from laser_pl.generation.way import AFRESH, Way, bare_generation_config, way_of
from laser_pl.generation.ways import Choice
from laser_pl.reading.company import Turn
from laser_pl.reading.modes import evaluating
from laser_pl.reading.text_decoder import without_wrapper
from laser_pl.runtime.seeds import derive_seed


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


def sample(model: Any, tokenizer: Any, prompts: PromptBatch, sampling: Sampling, seed: int) -> tuple[Responses, Tensor]:
    """Sample ``n`` responses to each prompt.

    The prompt is read once: all its tokens but the last fill a KV cache that its ``n`` responses share, and what all
    prompts begin with is read once for all of them; in slower ways where the model does not allow that
    (``laser_pl.generation.way``). The last token's hidden state is the context. PAD is never sampled, since an empty
    response has no log-probability per token, nor is an id that is no token of the tokenizer's, since it says nothing.

    Args:
        model: A Hugging Face causal language model, on the prompts' device.
        tokenizer: Its tokenizer, with PAD and EOS.
        prompts: ``B`` prompts.
        sampling: How.
        seed: Where the random numbers start; the caller's random state is left alone.

    Returns:
        The responses, and the hidden state of each prompt's last token after the final norm, ``(B, d)`` in float32.
    """
    base = without_wrapper(model)
    way, turn = way_of(base), Turn.of(base.config.get_text_config())
    batches = sampled_together(prompts, sampling, way, turn)
    eos = end_ids(base.generation_config, tokenizer)
    if len(batches) == 1:
        tokens, contexts = _sample(base, tokenizer, prompts, sampling, eos, batches[0].way, seed)
        return _responses(tokens, eos, sampling.stop, tokenizer), contexts
    pad = tokenizer.pad_token_id
    tokens = prompts.tokens.new_full((len(prompts), sampling.n, sampling.max_new_tokens), pad)
    contexts_of: dict[int, Tensor] = {}
    longest = 0
    for number, batch in enumerate(batches):
        some = _rows(prompts, batch.rows)
        found, hidden = _sample(base, tokenizer, some, sampling, eos, batch.way, derive_seed(seed, number))
        longest = max(longest, found.shape[-1])
        tokens[batch.rows, :, : found.shape[-1]] = found
        contexts_of |= zip(batch.rows, hidden, strict=True)
    contexts = torch.stack([contexts_of[row] for row in range(len(prompts))])  # (B, d)
    return _responses(tokens[..., :longest], eos, sampling.stop, tokenizer), contexts


@dataclass(frozen=True)
class Together:
    """Prompts that are sampled from together.

    Attributes:
        rows: Which.
        way: How they are continued.
    """

    rows: list[int]
    way: Way


def sampled_together(prompts: PromptBatch, sampling: Sampling, way: Way, turn: Turn | None = None) -> list[Together]:
    """All prompts, or as many of like length as the bound allows and the model can read together.

    Args:
        prompts: ``B`` prompts.
        sampling: How they are sampled from.
        way: How the model continues prompts.
        turn: The length at which its rotary frequencies change; what it keeps of a text is of no use beyond it.
    """
    lengths = prompts.mask.sum(-1).tolist()

    def kind(row: int) -> tuple[int, int]:
        """Prompts of one kind may be continued together: where they stand to the turn, and their length if need be."""
        length = lengths[row]
        if turn is None or length + sampling.max_new_tokens <= turn.length:
            return 0, 0 if way.padded else length
        if length - 1 > turn.length and not turn.gradual:
            return 2, 0 if way.padded else length
        return 1, length

    batches: list[Together] = []
    before: tuple[int, int] | None = None
    for row in sorted(range(len(lengths)), key=lambda row: (kind(row), lengths[row], row)):
        own = kind(row)
        continued = AFRESH if own[0] == 1 else way
        each = sampling.n * sampling.max_new_tokens + lengths[row] * (1 if continued.reads_once else sampling.n)
        if own != before or (len(batches[-1].rows) + 1) * each > sampling.tokens_at_once:
            batches.append(Together([], continued))
        batches[-1].rows.append(row)
        before = own
    return batches


def _rows(prompts: PromptBatch, rows: list[int]) -> PromptBatch:
    """Some of the prompts, with no more padding than they need."""
    some = prompts.part(rows)
    width = int(some.mask.sum(-1).max())
    return PromptBatch(some.prompts, some.tokens[:, -width:], some.mask[:, -width:])


def _sample(
    base: Any, tokenizer: Any, prompts: PromptBatch, sampling: Sampling, eos: list[int], way: Way, seed: int
) -> tuple[Tensor, Tensor]:
    """One batch: token ids ``(B, n, T)``, to be cut where they end, and contexts ``(B, d)``."""
    pad, width = tokenizer.pad_token_id, prompts.tokens.shape[1]
    size = base.config.get_text_config().vocab_size
    never = sorted({pad, *unknown_ids(tokenizer, size)}.difference(eos))
    draws: list[Draw] = []
    if sampling.temperature > 0:
        numbers = _numbers(sampling.max_new_tokens, len(prompts) * sampling.n, seed).to(prompts.tokens.device)
        draws = [Draw(numbers, width, sampling.temperature, sampling.top_p, never)]
    stops = StopStrings(tokenizer, sampling.stop, width)
    choice = Choice(sampling.n, sampling.max_new_tokens, draws, never, eos, pad, stops)
    with evaluating(base), bare_generation_config(base):
        tokens, contexts = way.call(base, prompts, choice)  # (B * n, T)
    return tokens.view(len(prompts), sampling.n, -1), contexts


def _numbers(tokens: int, rows: int, seed: int) -> Tensor:
    """Uniform in [0, 1) for each token of each row, ``(T, R)`` in float64. With more tokens the first stay the same."""
    return torch.rand(tokens, rows, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _responses(tokens: Tensor, eos: list[int], stops: list[str], tokenizer: Any) -> Responses:
    """Cut responses behind the first EOS, or the token that completes the first stop string, and decode them."""
    is_eos = torch.isin(tokens, torch.tensor(eos, device=tokens.device))
    lengths, finished = lengths_to(is_eos), is_eos.any(-1)  # (B, n)
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
