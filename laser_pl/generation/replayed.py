"""Writing responses with one forward of fixed shape, which a card replays token by token without asking Python."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from laser_pl.batches import PromptBatch
from laser_pl.generation.ends import lengths_to
from laser_pl.generation.fixed_cache import FixedCache
from laser_pl.generation.stop_strings import TOKENS_BETWEEN_LOOKS
from laser_pl.generation.ways import Choice
from laser_pl.logprobs.attention import attending
from laser_pl.logprobs.fused_norms import fused_norms
from laser_pl.logprobs.trial_texts import difference
from laser_pl.runtime import progress

log = logging.getLogger(__name__)

FIRST_WIDTH = 128
"""Columns of a response that its tokens look at, at first; twice as many whenever these are full."""

FEWER = 0.75
"""When no more of the rows than this are under way, the others leave. A new capture takes as long as a few tokens."""

NOT_REPLAYED = "Sampling waits for Python at every token, which is slower than a replay: %s."

TOLERANCE = 2e-2
"""By how much a replay's logits may differ from the forward's that was captured, as part of the largest number."""


def replayed(base: Any, prompts: PromptBatch, cache: Any, choice: Choice) -> Tensor:
    """Write to prompts whose keys and values lie once, token by token, by a forward whose shapes never change.

    Tokens, random numbers and where responses end are those of ``laser_pl.generation.ways.growing``.
    """
    width, room = prompts.tokens.shape[1], choice.longest + -choice.longest % TOKENS_BETWEEN_LOOKS
    layers = [(layer.keys, layer.values) for layer in cache.layers]
    fixed = FixedCache(layers, prompts.mask[:, :-1], choice.n, room)
    texts = torch.nn.functional.pad(prompts.tokens, (0, choice.longest), value=choice.pad)
    texts = texts.repeat_interleave(choice.n, dim=0)  # (R, Tp + T)
    result = texts[:, width:].clone()
    rows = torch.arange(len(texts), device=texts.device)  # of those still written
    over = torch.zeros_like(rows, dtype=torch.bool)  # which of these have ended all the same
    ends = torch.tensor(choice.eos, device=texts.device, dtype=torch.long)
    last = prompts.mask.sum(-1, keepdim=True) - 1  # (B, 1)  place of each prompt's last token
    written, forward = 0, None
    with attending(base, fixed), fused_norms(base):
        while written < choice.longest and not bool(over.all()):
            before, written = written, min(written + TOKENS_BETWEEN_LOOKS, choice.longest)
            under_way = ~over
            if forward is None or forward.width < written:
                forward = None  # which gives its memory back first
                forward = OneToken(base, fixed, last[fixed.owner], min(_columns(written), room))
            for place in range(width + before, width + written):
                scores = forward(texts[:, place - 1 : place]).to(torch.float32, copy=True)  # (R, V)
                token = choice.token(texts[:, :place], scores)[:, 0].masked_fill(over, choice.pad)
                texts[:, place] = token
                over = over | torch.isin(token, ends)
                fixed.advance()
            going = (~over).nonzero().squeeze(-1)
            over[going] = choice.ended(texts[going, width : width + written])
            going = (~over).nonzero().squeeze(-1)
            # A response counts by how much of the longest it has, and as a whole once it has ended.
            count, further, rest = int(under_way.sum()), written - before, choice.longest - written
            progress.advance((count * further + (count - len(going)) * rest) / choice.longest)
            if not len(going):
                written = int(lengths_to(torch.isin(texts[under_way, width : width + written], ends)).max())
            elif len(going) <= FEWER * len(rows):
                result[rows] = texts[:, width:]
                rows, texts, over, forward = rows[going], texts[going], over[going], None
                fixed.keep(going)
                for processor in choice.processors:
                    processor.keep(going)
    result[rows] = texts[:, width:]
    return result[:, :written]


def _columns(tokens: int) -> int:
    """The first of the widths that responses of so many tokens fit in."""
    width = FIRST_WIDTH
    while width < tokens:
        width *= 2
    return width


class OneToken:
    """The forward of one more token of each response, in which nothing changes but what lies in tensors.

    On a card it is captured the first time, and replayed from then on; where that fails it runs as it is.

    Args:
        base: The model, in ``attending`` with the cache.
        cache: What was read and written so far.
        last: Place of each response's prompt's last token. Shape ``(R, 1)``.
        width: Columns of the responses that tokens look at; that many tokens can be written.
    """

    def __init__(self, base: Any, cache: FixedCache, last: Tensor, width: int) -> None:
        cache.look_at(width)
        self.base, self.cache, self.last, self.width = base, cache, last, width
        self.tokens, self.real = torch.zeros_like(last), torch.ones_like(last)
        self.captured: Captured | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        """From the newest token of each response, ``(R, 1)``, to logits ``(R, V)``, there until the next call."""
        self.tokens.copy_(tokens)
        if self.captured is not None:
            return self.captured.replay()
        if capturable(tokens.device) and self.base not in refused:
            try:
                self.captured = Captured(self._forward, tokens.device)
                return self.captured.replay()
            except Exception as error:  # whatever cannot be captured
                refused.add(self.base)
                first = error.__context__ or error  # before the capture's own, which says that one came before it
                log.warning(NOT_REPLAYED, f"{type(first).__name__}: {first}".splitlines()[0])
        return self._forward()

    def _forward(self) -> Tensor:
        self.cache.begin()
        logits: Tensor = self.base(
            input_ids=self.tokens,
            attention_mask=self.real,  # without one, some families look for padding, for which a card has to wait
            position_ids=self.last + self.cache.step,
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        return logits[:, -1]


refused: WeakSet[torch.nn.Module] = WeakSet()
"""Models whose forward could not be captured."""


def capturable(device: torch.device) -> bool:
    """Whether a device can capture what it does."""
    return device.type == "cuda"


class Captured:
    """A call on a card, captured as a graph of its kernels.

    Args:
        call: It always works on the same tensors, and writes the same when it is called again.
        device: The card.

    Raises:
        RuntimeError: If it cannot be captured, or if a replay gives something else.
    """

    def __init__(self, call: Callable[[], Tensor], device: torch.device) -> None:
        kind, here = device.type, torch.cuda.current_stream(device)
        mixed = torch.is_autocast_enabled(kind)
        # What autocast keeps of weights would belong to the graph.
        with torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=mixed, cache_enabled=False):
            expected = call()  # first calls load kernels and make what is to stay
            self.graph = torch.cuda.CUDAGraph()
            # Back to this stream also after a capture that failed. Other threads may use the card meanwhile.
            capture = torch.cuda.graph(self.graph, stream=_aside(device), capture_error_mode="thread_local")
            with torch.cuda.stream(here), capture:
                self.result = call()
        apart = difference(self.replay(), expected)
        if not apart <= TOLERANCE:
            raise RuntimeError(f"a replay's logits differ by {apart:.1%} of the largest")

    def replay(self) -> Tensor:
        """What the call gives now; there until the next replay."""
        self.graph.replay()
        return self.result


@cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """The stream of all captures on a card, for which libraries set up their memory once."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
