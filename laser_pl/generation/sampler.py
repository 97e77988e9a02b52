"""Sampling n responses to each prompt from one reading of the prompt."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import PromptBatch, Responses
from laser_pl.generation.cut import responses_of
from laser_pl.generation.ends import end_ids
from laser_pl.generation.inverse_cdf import Draw
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.stop_strings import StopStrings
from laser_pl.generation.text import unknown_ids
from laser_pl.generation.way import AFRESH, Way, bare_generation_config, way_of
from laser_pl.generation.ways import Choice
from laser_pl.logprobs.company import Turn
from laser_pl.logprobs.logprob_model import LogprobModel
from laser_pl.logprobs.modes import evaluating
from laser_pl.logprobs.text_decoder import without_wrapper
from laser_pl.runtime.seeds import derive_seed


def sample_responses(model: Any, tokenizer: Any, prompts: PromptBatch, sampling: Sampling, seed: int) -> Responses:
    """Sample ``n`` responses to each prompt.

    The prompt is read once: all its tokens but the last fill a KV cache that its ``n`` responses share, and what all
    prompts begin with is read once for all of them; in slower ways where the model does not allow that
    (``laser_pl.generation.way``). PAD is never sampled, since an empty response has no log-probability per token; nor
    is an id that is no token of the tokenizer's, since it says nothing.

    Args:
        model: A Hugging Face causal language model, on the prompts' device.
        tokenizer: Its tokenizer, with PAD and EOS.
        prompts: ``B`` prompts.
        sampling: How.
        seed: Where the random numbers start; the caller's random state is left alone.
    """
    base = without_wrapper(model)
    way, turn = way_of(base), Turn.of(base.config.get_text_config())
    batches = sampled_together(prompts, sampling, way, turn)
    eos = end_ids(base.generation_config, tokenizer)
    if len(batches) == 1:
        tokens = _sample(base, tokenizer, prompts, sampling, eos, batches[0].way, seed)
        return responses_of(tokens, eos, sampling.stop, tokenizer)
    pad = tokenizer.pad_token_id
    tokens = prompts.tokens.new_full((len(prompts), sampling.n, sampling.max_new_tokens), pad)
    longest = 0
    for number, batch in enumerate(batches):
        some = _rows(prompts, batch.rows)
        found = _sample(base, tokenizer, some, sampling, eos, batch.way, derive_seed(seed, number))
        longest = max(longest, found.shape[-1])
        tokens[batch.rows, :, : found.shape[-1]] = found
    return responses_of(tokens[..., :longest], eos, sampling.stop, tokenizer)


def sample(model: Any, tokenizer: Any, prompts: PromptBatch, sampling: Sampling, seed: int) -> tuple[Responses, Tensor]:
    """The responses, and the prompts' contexts ``(B, d)``, as before engines; it goes with the next release."""
    warnings.warn(
        "laser_pl.generation.sampler.sample is sample_responses now, and contexts are LogprobModel.contexts.",
        FutureWarning,
        stacklevel=2,
    )
    responses = sample_responses(model, tokenizer, prompts, sampling, seed)
    with evaluating(model):
        return responses, LogprobModel(model, sampling.tokens_at_once).contexts(prompts)


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
) -> Tensor:
    """Token ids of one batch, to be cut where they end. Shape ``(B, n, T)``."""
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
        tokens = way.call(base, prompts, choice)  # (B * n, T)
    return tokens.view(len(prompts), sampling.n, -1)


def _numbers(tokens: int, rows: int, seed: int) -> Tensor:
    """Uniform in [0, 1) for each token of each row, ``(T, R)`` in float64. With more tokens the first stay the same."""
    return torch.rand(tokens, rows, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
