"""Sampling n responses to each prompt from one reading of the prompt."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from laser_pl.batches import PromptBatch, Responses
from laser_pl.errors import ConfigurationError
from laser_pl.logprobs import position_ids
from laser_pl.seeds import seeded


@dataclass
class Sampling:
    """How responses are sampled. Defaults are the paper's.

    Attributes:
        n: Responses per prompt.
        temperature: Softmax temperature; 0 takes the likeliest token.
        top_p: Nucleus mass; 1 keeps the whole vocabulary.
        max_new_tokens: Longest response, EOS included.
    """

    n: int = 30
    temperature: float = 0.8
    top_p: float = 1.0
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigurationError(f"n must be >= 1, got {self.n}. Set the number of responses per prompt.")
        if self.temperature < 0:
            raise ConfigurationError(f"temperature must be >= 0, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.max_new_tokens < 1:
            raise ConfigurationError(f"max_new_tokens must be >= 1, got {self.max_new_tokens}.")


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Run a block with the model in evaluation mode and without gradients; its mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


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

    The prompt is read once: all its tokens but the last fill a KV cache that is then repeated ``n`` times, and the last
    token's hidden state is the context. PAD is never sampled, since an empty response has no log-probability per token.

    Args:
        model: A Hugging Face causal language model, on the prompts' device.
        tokenizer: Its tokenizer, with PAD and EOS.
        prompts: ``B`` prompts.
        sampling: How.
        seed: Where the random numbers start; the caller's random state is left alone.

    Returns:
        The responses, and the hidden state of each prompt's last token after the final norm, ``(B, d)`` in float32.
    """
    choice: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        choice = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    eos = _eos_ids(model, tokenizer)
    with evaluating(model), seeded(seed, prompts.tokens.device), _bare_generation_config(model):
        cache, contexts = _read_prompts(model, prompts)
        if cache is not None:
            cache.batch_repeat_interleave(sampling.n)
        sequences = model.generate(
            input_ids=prompts.tokens.repeat_interleave(sampling.n, dim=0),
            attention_mask=prompts.mask.repeat_interleave(sampling.n, dim=0),
            past_key_values=cache,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=eos,
            suppress_tokens=None if tokenizer.pad_token_id in eos else [tokenizer.pad_token_id],
            **choice,
        )
    tokens = sequences[:, prompts.tokens.shape[1] :].unflatten(0, (len(prompts), sampling.n))  # (B, n, T)
    return _responses(tokens, eos, tokenizer), contexts


def _read_prompts(model: Any, prompts: PromptBatch) -> tuple[Any, Tensor]:
    """KV cache of all prompt tokens but the last, and the last token's hidden state ``(B, d)``."""
    decoder = model.get_decoder()
    positions = position_ids(prompts.mask)
    cache = None
    if prompts.tokens.shape[1] > 1:
        cache = decoder(
            input_ids=prompts.tokens[:, :-1],
            attention_mask=prompts.mask[:, :-1],
            position_ids=positions[:, :-1],
            use_cache=True,
        ).past_key_values
    # generate() reads the last token itself, so this reading must not touch its cache. Cropping it back instead fails
    # for sliding windows and recurrent states.
    hidden = decoder(
        input_ids=prompts.tokens[:, -1:],
        attention_mask=prompts.mask,
        position_ids=positions[:, -1:],
        past_key_values=copy.deepcopy(cache),
        use_cache=cache is not None,
    ).last_hidden_state  # (B, 1, d)
    return cache, hidden[:, -1].float()


def _eos_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every id that ends a response: the tokenizer's and the generation config's (chat models have several)."""
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({id_ for id_ in (*ids, tokenizer.eos_token_id) if id_ is not None})


def _responses(tokens: Tensor, eos: list[int], tokenizer: Any) -> Responses:
    """Mask what follows the first EOS and decode the rest."""
    is_eos = torch.isin(tokens, torch.tensor(eos, device=tokens.device))
    after_eos = is_eos.cumsum(-1) - is_eos.long() > 0
    mask = (~after_eos).long()
    tokens = tokens.masked_fill(after_eos, tokenizer.pad_token_id)
    texts = [tokenizer.batch_decode(row, skip_special_tokens=True) for row in tokens.cpu()]
    return Responses(tokens, mask, is_eos.any(-1), texts)
