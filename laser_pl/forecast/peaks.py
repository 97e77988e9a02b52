"""Tensors that are alive at most in each thing a run does with a model, found by doing it on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import TopPLogitsWarper

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.forecast.paper import Paper
from laser_pl.generation.prompt_reading import read_prompts
from laser_pl.generation.sampler import sampled_together
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.shared_cache import SharedCache
from laser_pl.generation.way import FASTEST, SLOWER
from laser_pl.logprobs.attention import attending
from laser_pl.logprobs.manner import Manner
from laser_pl.logprobs.micro_batches import micro_batches
from laser_pl.logprobs.packed import packed_logprobs, windows_of
from laser_pl.logprobs.packing import pack
from laser_pl.logprobs.padded import full_width_logprobs
from laser_pl.logprobs.text_decoder import text_decoder, without_wrapper
from laser_pl.training.adapter import train_adapter


@dataclass(frozen=True)
class Question:
    """Prompts with as many responses each, all of them as long as they can be.

    Attributes:
        heads: Tokens of each of the ``B`` prompts.
        n: Responses to each.
        tail: Tokens of a response.
    """

    heads: Sequence[int]
    n: int
    tail: int

    @property
    def prompt(self) -> Tensor:
        """The prompt of each response. Shape ``(B n,)``."""
        return torch.arange(len(self.heads)).repeat_interleave(self.n)

    def groups(self, budget: int, shared: bool) -> list[list[list[int]]]:
        """Which responses are read together, as ``laser_pl.logprobs.logprob_model`` groups them."""
        lengths = torch.full((len(self.heads) * self.n,), self.tail)
        return micro_batches(torch.tensor(self.heads), self.prompt, lengths, budget, shared)


def largest_micro_batch(question: Question, budget: int, shared: bool) -> list[int]:
    """The prompt of every response in the forward that has most tokens, however many of the responses are read.

    With fewer responses to each, or shorter ones, more prompts fit the budget, and may fill it better.

    >>> largest_micro_batch(Question([5, 2], n=2, tail=3), budget=11, shared=True)
    [0, 0]
    >>> largest_micro_batch(Question([5, 2], n=2, tail=3), budget=13, shared=True)
    [1, 0]
    """

    def tokens(part: list[int]) -> int:
        heads = set(part) if shared else part
        return len(part) * question.tail + sum(int(question.heads[of]) for of in heads)

    # More of the longest prompts than the budget holds need not be looked at.
    longest = sorted(range(len(question.heads)), key=lambda of: question.heads[of])[-(budget // question.tail + 1) :]
    found: list[list[int]] = []
    for n in range(1, question.n + 1):
        some = Question([question.heads[of] for of in longest], n, question.tail)
        prompt = [longest[of] for of in some.prompt.tolist()]
        found += [[prompt[row] for row in part] for group in some.groups(budget, shared) for part in group]
    return max(reversed(found), key=tokens)


def reading(paper: Paper, question: Question, budget: int, shared: bool, training: bool) -> int:
    """Bytes for reading responses: hidden states, logits, and for training what the backward pass needs, and gradients.

    Args:
        paper: The policy, or a likelihood.
        question: What is read.
        budget: Tokens of a forward.
        shared: Whether a prompt is read once for its responses.
        training: Whether gradients are taken, group by group.
    """
    return reading_one(
        paper, question.heads, largest_micro_batch(question, budget, shared), question.tail, shared, training
    )


def reading_one(paper: Paper, heads: Sequence[int], of: Sequence[int], tail: int, shared: bool, training: bool) -> int:
    """The same for one forward.

    Args:
        paper: The policy, or a likelihood.
        heads: Tokens of each prompt.
        of: The prompt of each response. ``R`` of them.
        tail: Tokens of a response.
        shared: Whether a prompt is read once for its responses.
        training: Whether gradients are taken.
    """
    used, prompt = torch.unique(torch.tensor(of), return_inverse=True)
    batch = prompts_of([heads[row] for row in used.tolist()])
    tails = torch.ones(len(of), tail, dtype=torch.long)
    inputs = batch.tokens, batch.mask, prompt, tails, tails
    packing = paper.copy(pack(*inputs)) if shared else None
    alone = [paper.copy(part) for part in (batch.tokens[prompt], batch.mask[prompt], tails, tails)]

    def read(model: Any) -> None:
        train_adapter(model, training)
        with torch.set_grad_enabled(training):
            base = without_wrapper(model)
            manner = Manner(text_decoder(base))
            logprobs = full_width_logprobs(base, manner, *alone) if packing is None else packed_logprobs(base, packing)
            if training:
                logprobs.sum().backward()  # type: ignore[no-untyped-call]
        model.zero_grad()

    return paper.peak(read)


def sampling(paper: Paper, heads: Sequence[int], how: Sampling, shared: bool) -> int:
    r"""Bytes for sampling responses: reading the prompts, and the last token of the longest responses.

    The KV cache is :math:`2 L H_{kv} D (\sum_b T_b + R T)` numbers where a prompt's keys lie once for its responses,
    and :math:`2 L H_{kv} D R (T_p + T)` where they are repeated (``laser_pl.generation.sampler``); beside it there are
    the logits, :math:`R V` in the model's type, in float32, and the choice in int8.

    Args:
        paper: The policy.
        heads: Tokens of the prompts of one generation.
        how: How they are sampled.
        shared: Whether the model's attention lets responses share their prompt's keys.
    """
    way = FASTEST if shared else SLOWER
    rows = max((together.rows for together in sampled_together(prompts_of(heads), how, way)), key=len)
    batch = prompts_of([sorted(heads)[-len(rows) :][place] for place in range(len(rows))])
    width, count = batch.tokens.shape[1], len(batch) * how.n
    on_paper = paper.copy(batch)
    generator = without_wrapper(paper.model)
    filled = _almost_full(paper, generator, batch, how)

    def sample(model: Any) -> None:
        model.eval()
        with torch.no_grad():
            cache = read_prompts(generator, on_paper)
            token = torch.zeros(count, 1, dtype=torch.long)
            place = torch.zeros(count, 1, dtype=torch.long)
            if cache is None:
                logits = generator(input_ids=token, position_ids=place).logits
            elif shared:
                for layer, own in zip(filled.layers, cache.layers, strict=True):
                    layer.prompt_keys, layer.prompt_values = own.keys, own.values
                with attending(generator, filled):
                    logits = generator(input_ids=token, position_ids=place, past_key_values=filled).logits
            else:
                cache.batch_repeat_interleave(how.n)
                for layer in cache.layers:
                    layer.keys, layer.values = (_longer(part, width + how.max_new_tokens - 2)
                                                for part in (layer.keys, layer.values))  # fmt: skip
                logits = generator(input_ids=token, position_ids=place, past_key_values=cache).logits
            scores = logits[:, -1].to(torch.float32, copy=True)  # as transformers' generate copies them
            if how.temperature > 0:
                if how.top_p < 1:
                    scores = TopPLogitsWarper(how.top_p)(token, scores)
                torch.zeros_like(scores, dtype=torch.int8)

    ids = 8 * count * (2 * (width + how.max_new_tokens) + 2 * how.max_new_tokens)  # texts, mask, result, random numbers
    return paper.peak(sample) + ids


def _almost_full(paper: Paper, model: Any, batch: PromptBatch, how: Sampling) -> SharedCache:
    """A shared cache in which only one token more has room; the prompts' keys and values are still to come."""
    nothing = torch.empty(0, device="meta")
    layers = model.config.get_text_config().num_hidden_layers
    filled = SharedCache([(nothing, nothing)] * layers, batch.mask[:, :-1], how.n, how.max_new_tokens)
    width = batch.tokens.shape[1] - 1
    for window in set(windows_of(model.config.get_text_config())):
        # Whether there is something to mask is asked of numbers, so it is answered here.
        kept = width if window is None else min(width, window - 1)
        filled.prompt_mask(window, how.max_new_tokens, kept)
    filled.masks = {kind: None if mask is None else paper.copy(mask) for kind, mask in filled.masks.items()}
    for name in ("mask", "owner", "positions", "places"):
        setattr(filled, name, paper.copy(getattr(filled, name)))
    for layer in filled.layers:
        layer.length = how.max_new_tokens - 1
    return filled


def _longer(states: Tensor, length: int) -> Tensor:
    return states.new_empty(*states.shape[:2], length, states.shape[-1])


def classifying(paper: Paper, rows: int, length: int) -> int:
    """Bytes for one forward of a classifier over ``rows`` texts of ``length`` tokens."""
    return paper.peak(lambda model: _forward(model, rows, length))


def judging(paper: Paper, rows: int, length: int) -> int:
    """The same of a judge, of which only the last token's logits are wanted."""
    return paper.peak(lambda model: _forward(model, rows, length, use_cache=False, logits_to_keep=1))


def _forward(model: Any, rows: int, length: int, **options: Any) -> None:
    tokens = torch.ones(rows, length, dtype=torch.long)
    with torch.no_grad():
        model.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens), **options)


def prompts_of(heads: Sequence[int]) -> PromptBatch:
    """Prompts of so many tokens, padded on the left."""
    lengths = torch.tensor(heads)
    mask = (torch.arange(int(lengths.max())).flip(0) < lengths[:, None]).long()  # (B, Tp)
    return PromptBatch(tuple(Prompt(str(row), "", "") for row in range(len(heads))), mask, mask)
