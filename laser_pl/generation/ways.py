"""Ways to continue prompts, from the fastest to the one that is right for every causal model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import PromptBatch
from laser_pl.generation.prompt_reading import may_share_prefix, read_prompts, side_by_side
from laser_pl.generation.shared_cache import SharedCache
from laser_pl.generation.stop_strings import TOKENS_BETWEEN_LOOKS, StopStrings
from laser_pl.logprobs.attention import attending
from laser_pl.logprobs.manner import manner_of
from laser_pl.logprobs.shared_prefix import padded_right, shared_prefix
from laser_pl.runtime import progress


@dataclass(frozen=True)
class Choice:
    """How many responses are wanted, and how their tokens are chosen.

    Attributes:
        n: Responses per prompt.
        longest: Most tokens of a response.
        processors: What chooses, of the kind of ``laser_pl.generation.inverse_cdf.Draw``; none takes the likeliest.
        never: Ids that are not chosen where nobody draws.
        eos: Ids that end a response.
        pad: The id behind the end.
        stops: Texts that end a response; None has none.
    """

    n: int
    longest: int
    processors: list[Any]
    never: list[int]
    eos: list[int]
    pad: int
    stops: StopStrings | None = None

    def token(self, seen: Tensor, scores: Tensor) -> Tensor:
        """The next token of each response.

        Args:
            seen: Texts so far, prompts included. Shape ``(R, T)``.
            scores: Logits in float32, which are overwritten. Shape ``(R, V)``.

        Returns:
            Shape ``(R, 1)``.
        """
        if not self.processors:
            scores[:, self.never] = -torch.inf
        for processor in self.processors:
            scores = processor(seen, scores)
        return scores.argmax(-1, keepdim=True)

    def ended(self, tokens: Tensor) -> Tensor:
        """Which responses, ``(R, T)``, have come to an end. Shape ``(R,)``."""
        by_id = torch.isin(tokens, torch.tensor(self.eos, device=tokens.device, dtype=torch.long)).any(-1)
        return by_id if self.stops is None else by_id | self.stops.ended(tokens)

    @property
    def options(self) -> dict[str, Any]:
        """The same for transformers' ``generate``."""
        return {
            "do_sample": False,  # the likeliest token, or what was drawn
            "logits_processor": self.processors,
            "suppress_tokens": None if self.processors or not self.never else self.never,
            "pad_token_id": self.pad,
            "eos_token_id": self.eos or None,
            "synced_gpus": False,  # how many forwards processes make together is for `Lockstep` to see to
        }


Continued = Callable[[Any, PromptBatch, Any, Choice], Tensor]
"""Tokens ``(B * n, T)`` that a model writes to prompts of which a cache holds all tokens but the last."""


def shared(base: Any, prompts: PromptBatch, choice: Choice, continued: Continued, start: int | None = None) -> Tensor:
    """Read each prompt once, what all begin with only once, and let its keys and values lie once for its responses.

    Args:
        base: The model.
        prompts: ``B`` prompts.
        choice: How tokens are chosen.
        continued: How they are written.
        start: How many tokens all prompts begin with that are read once; None looks for itself.

    Returns:
        Tokens, with PAD behind the end, as of every way. Shape ``(B * n, T)``.
    """
    if start is None:
        start = shared_prefix(prompts.tokens, prompts.mask) if may_share_prefix(base, prompts.tokens.shape[1]) else 0
    prompts = side_by_side(prompts, start)
    cache = read_prompts(base, prompts, start)
    if cache is None:  # prompts of one token have nothing to share
        return _generated(base, prompts, choice, None)
    return continued(base, prompts, cache, choice)


def repeated(base: Any, prompts: PromptBatch, choice: Choice, repeat: Callable[[Any, Tensor], None]) -> Tensor:
    """Read each prompt once, and repeat what the model keeps of it for its responses.

    Args:
        base: The model.
        prompts: ``B`` prompts.
        choice: How tokens are chosen.
        repeat: Makes a cache of prompts one of responses, given the prompt of each, ``(B * n,)``.
    """
    cache = read_prompts(base, prompts)
    if cache is not None:
        repeat(cache, torch.arange(len(prompts), device=prompts.tokens.device).repeat_interleave(choice.n))
    return _generated(base, prompts, choice, cache)


def by_interleaving(cache: Any, owner: Tensor) -> None:
    """As transformers repeats a cache for several samples; layers with recurrent states cannot do it."""
    cache.batch_repeat_interleave(len(owner) // (int(owner.max()) + 1))


def by_reordering(cache: Any, owner: Tensor) -> None:
    """As transformers orders a cache anew for beams, which layers with recurrent states can do as well."""
    cache.reorder_cache(owner)


def again(base: Any, prompts: PromptBatch, choice: Choice) -> Tensor:
    """Read each prompt once for each of its responses."""
    return _generated(base, prompts, choice, None)


def afresh(base: Any, prompts: PromptBatch, choice: Choice) -> Tensor:
    """Read the whole text again for every token of it."""
    manner = manner_of(base)
    mask = prompts.mask.repeat_interleave(choice.n, dim=0)
    places = mask.sum(-1, keepdim=True)  # (R, 1)  of the next token
    tokens = padded_right(prompts.tokens, prompts.mask).repeat_interleave(choice.n, dim=0)
    tokens = torch.nn.functional.pad(tokens, (0, choice.longest), value=choice.pad)  # (R, Tp + T)
    columns = torch.arange(tokens.shape[1], device=tokens.device)
    seen = prompts.tokens.repeat_interleave(choice.n, dim=0)  # as whoever chooses wants them
    ends = torch.tensor(choice.eos, device=tokens.device, dtype=torch.long)
    written = prompts.tokens.shape[1]
    over = torch.zeros_like(places, dtype=torch.bool)
    for step in range(1, choice.longest + 1):
        width = int(places.max())
        hidden, head = manner.read(base, tokens[:, :width], (columns[:width] < places).long())
        last = hidden.gather(1, (places - 1)[:, :, None].expand(-1, -1, hidden.shape[-1]))[:, 0]  # (R, h)
        scores = head.logits(last).to(torch.float32, copy=True)  # (R, V)
        token = choice.token(seen, scores).masked_fill(over, choice.pad)  # (R, 1)
        tokens = tokens.scatter(1, places, token)
        seen, places = torch.cat([seen, token], dim=-1), places + 1
        over = over | torch.isin(token, ends)
        if step % TOKENS_BETWEEN_LOOKS == 0:
            over = over | choice.ended(seen[:, written:])[:, None]
        if bool(over.all()):
            break
    progress.advance(len(tokens))
    return seen[:, written:]


def _generated(base: Any, prompts: PromptBatch, choice: Choice, cache: Any) -> Tensor:
    """Generate from prompts repeated for their responses; the cache holds all their tokens but the last, or is None."""
    tokens: Tensor = base.generate(
        input_ids=prompts.tokens.repeat_interleave(choice.n, dim=0),
        attention_mask=prompts.mask.repeat_interleave(choice.n, dim=0),
        past_key_values=cache,
        max_new_tokens=choice.longest,
        stopping_criteria=None if choice.stops is None else [choice.stops],
        **choice.options,
    )[:, prompts.tokens.shape[1] :]
    progress.advance(len(tokens))
    return tokens


def growing(base: Any, prompts: PromptBatch, cache: Any, choice: Choice) -> Tensor:
    """Generate from prompts whose keys and values lie once; responses that have ended leave the batch now and then.

    Each response draws by its own random numbers, which are those of plain generation whoever leaves.
    """
    width = prompts.tokens.shape[1]
    layers = [(layer.keys, layer.values) for layer in cache.layers]
    shared_cache = SharedCache(layers, prompts.mask[:, :-1], choice.n, choice.longest)
    texts = prompts.tokens.repeat_interleave(choice.n, dim=0)  # (R, Tp + t)
    mask = prompts.mask.repeat_interleave(choice.n, dim=0)
    result = texts.new_full((len(texts), choice.longest), choice.pad)
    rows = torch.arange(len(texts), device=texts.device)  # of those still under way
    written = 0
    with attending(base, shared_cache):
        while written < choice.longest and len(rows):
            texts = base.generate(
                input_ids=texts,
                attention_mask=mask,
                past_key_values=shared_cache,
                max_new_tokens=min(TOKENS_BETWEEN_LOOKS, choice.longest - written),
                **choice.options,
            )
            before, written = written, texts.shape[1] - width
            result[rows, :written] = texts[:, width:]
            going = (~choice.ended(texts[:, width:])).nonzero().squeeze(-1)
            # A response counts by how much of the longest it has, and as a whole once it has ended.
            further, rest = written - before, choice.longest - written
            progress.advance((len(rows) * further + (len(rows) - len(going)) * rest) / choice.longest)
            if len(going) < len(rows):
                rows, texts = rows[going], texts[going]
                shared_cache.keep(going)
                for processor in choice.processors:
                    processor.keep(going)
            mask = torch.cat([prompts.mask[shared_cache.owner], torch.ones_like(texts[:, width:])], dim=-1)
    return result[:, :written]
