"""Which way of continuing prompts is right for a model, found out by trying."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from laser_pl.batches import PromptBatch
from laser_pl.errors import ConfigurationError
from laser_pl.generation.replayed import NOT_REPLAYED, capturable, replayed
from laser_pl.generation.ways import (
    Choice,
    afresh,
    again,
    by_interleaving,
    by_reordering,
    growing,
    repeated,
    shared,
)
from laser_pl.logprobs.manner import manner_of, predicted
from laser_pl.logprobs.packed import why_attention_is_its_own
from laser_pl.logprobs.trial_texts import LONGEST, RESPONSES, START, TrialTexts, difference, unblurred
from laser_pl.runtime import progress
from laser_pl.runtime.sharding import SHARED_OUT, is_sharded

log = logging.getLogger(__name__)

Continue = Callable[..., Tensor]
"""From a model, prompts and how tokens are chosen to tokens, see ``laser_pl.generation.ways.shared``."""


@dataclass(frozen=True)
class Way:
    """How a model continues prompts.

    Attributes:
        call: What does it.
        padded: Whether prompts of unlike length go together, padded on the left.
        reads_once: Whether a prompt is read once for all its responses.
        slow: What it does that takes longer, for the log; None for the fastest.
        shares: Whether a prompt's keys lie once, what all prompts begin with read once where ``start`` says so.
    """

    call: Continue
    padded: bool
    reads_once: bool
    slow: str | None
    shares: bool = False


_INTERLEAVED, _REORDERED = partial(repeated, repeat=by_interleaving), partial(repeated, repeat=by_reordering)
_REPEATED = "What the model keeps of a prompt is repeated for its responses"
_AGAIN = "A prompt is read once for each of its responses"
_BY_LENGTH = "only prompts of one length are sampled from together"

WAYS = (
    Way(partial(shared, continued=replayed), padded=True, reads_once=True, slow=None, shares=True),
    Way(partial(shared, continued=growing), padded=True, reads_once=True, slow=None, shares=True),
    Way(_INTERLEAVED, padded=True, reads_once=True, slow=_REPEATED),
    Way(_REORDERED, padded=True, reads_once=True, slow=_REPEATED),
    Way(again, padded=True, reads_once=False, slow=_AGAIN),
    Way(_INTERLEAVED, padded=False, reads_once=True, slow=f"{_REPEATED}, and {_BY_LENGTH}"),
    Way(_REORDERED, padded=False, reads_once=True, slow=f"{_REPEATED}, and {_BY_LENGTH}"),
    Way(again, padded=False, reads_once=False, slow=f"{_AGAIN}, and {_BY_LENGTH}"),
    Way(afresh, padded=True, reads_once=False, slow="The whole text is read again for every token that is sampled"),
)
"""From the fastest on; the first is for cards."""

REPLAYED, FASTEST, SLOWER, AFRESH = *WAYS[:3], WAYS[-1]

_known: WeakKeyDictionary[torch.nn.Module, Way | str] = WeakKeyDictionary()


def way_of(base: Any) -> Way:
    """The fastest way that writes what the model's own forward predicts, found out once and logged.

    Args:
        base: A Hugging Face causal language model, without PEFT's wrapper.

    Raises:
        ConfigurationError: If it is no causal language model, or none of the ways is right.
    """
    if base not in _known:
        manner_of(base)  # first, since it refuses
        with progress.task("finding out how the policy writes"), unblurred(base), bare_generation_config(base):
            _known[base] = _find_out(base)
    found = _known[base]
    if isinstance(found, str):
        raise ConfigurationError(f"{type(base).__name__} cannot be sampled from: {found}.")
    return found


@contextmanager
def bare_generation_config(model: Any) -> Iterator[None]:
    """What ships with the weights (repetition penalty, beams, min_p) would sample something else."""
    shipped = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = shipped


class Dictation(LogitsProcessor):  # type: ignore[misc]
    """Lets each row write given tokens, and notes what the model would have thought of them.

    Args:
        tokens: Shape ``(R, T)``.
        start: The length of what stands before the first of them.
    """

    def __init__(self, tokens: Tensor, start: int) -> None:
        self.tokens, self.start = tokens, start
        self.scores: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """From logits ``(R, V)`` to one 1 in each row."""
        self.scores.append(scores.clone())
        token = self.tokens[:, input_ids.shape[1] - self.start, None]
        return torch.zeros_like(scores).scatter_(1, token, 1)


def _find_out(base: Any) -> Way | str:
    texts = TrialTexts.of(base)
    expected = predicted(base, texts)
    why = why_attention_is_its_own(base)
    reasons = [] if why is None else [why]
    for way in WAYS:
        if (way.shares and why is not None) or (way is REPLAYED and not capturable(base.device)):
            continue
        if way is REPLAYED and is_sharded(base):
            reasons.append(SHARED_OUT)
            continue
        try:
            reason = _why_wrong(base, way, texts, expected)
        except Exception as error:  # whatever a model of unknown make raises, another way may be right
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if reason is None:
            if way is FASTEST and reasons:
                log.warning(NOT_REPLAYED, reasons[0])
            elif way.slow is not None:
                log.warning("%s, which is slower than sharing it: %s.", way.slow, reasons[0])
            return way
        reasons.append(reason)
    return f"no way to continue a prompt gives the logits of its own forward ({reasons[-1]})"


def _why_wrong(base: Any, way: Way, texts: TrialTexts, logits: Tensor) -> str | None:
    """Why a way must not be used; None if it writes the trial's responses with the logits of whole texts."""
    together = [list(range(len(texts.prompts)))] if way.padded else [[row] for row in range(len(texts.prompts))]
    calls = [partial(way.call, start=start) for start in (0, START)] if way.shares else [way.call]
    for call in calls:
        for rows in together:
            prompts = texts.prompts.part(rows)
            width = int(prompts.mask.sum(-1).max())
            prompts = PromptBatch(prompts.prompts, prompts.tokens[:, -width:], prompts.mask[:, -width:])
            own = torch.isin(texts.prompt, torch.tensor(rows, device=texts.prompt.device))
            dictation = Dictation(texts.responses[own], width)
            choice = Choice(RESPONSES, LONGEST, [dictation], never=[], eos=[], pad=int(texts.prompts.tokens[0, 0]))
            call(base, prompts, choice)
            scores = torch.stack(dictation.scores, dim=1)  # (R, T, V)
            if not texts.agree(scores, logits[own]):
                return f"logits of a trial differed by {difference(scores, logits[own]):.1%} of the largest"
    return None
