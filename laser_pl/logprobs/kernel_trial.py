"""Whether attention by a kernel is right for a model on its card, found out by trying."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from laser_pl.logprobs.attention import PackedAttention, attending
from laser_pl.logprobs.modes import evaluating
from laser_pl.logprobs.packing import Packing
from laser_pl.logprobs.ragged import kernel_on, takes
from laser_pl.logprobs.text_decoder import text_decoder
from laser_pl.logprobs.trial_texts import TrialTexts, difference
from laser_pl.runtime.sharding import SHARED_OUT, is_sharded

log = logging.getLogger(__name__)

TOLERANCE = 5e-2
"""Of the largest number. Rounding to bfloat16 makes up to 1e-2 of it; a token too many or too few makes a tenth."""

SHORT = 3
"""Tokens of a window that is tried wherever a layer has one: its own is longer than the texts."""

_known: WeakKeyDictionary[torch.nn.Module, dict[torch.dtype | None, bool]] = WeakKeyDictionary()


def kernel_suits(base: Any) -> bool:
    """Whether each layer's attention by the kernel equals that with padding, forward and backward.

    Tried on short texts in the type that the model computes in at the moment, once for each such type. If not, or if
    the kernel refuses (a card or a head's size that it does not know), the log says so.

    Args:
        base: A Hugging Face causal language model, without PEFT's wrapper.
    """
    device = base.get_input_embeddings().weight.device
    if not kernel_on(device):
        return False
    mixed = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    known = _known.setdefault(base, {})
    if mixed not in known:
        reason = _why_not(base)
        if reason is not None:
            log.warning("Attention over shared prompts is computed with masks, which takes longer: %s.", reason)
        known[mixed] = reason is None
    return known[mixed]


def _why_not(base: Any) -> str | None:
    if is_sharded(base):  # whose forwards are everybody's, and it is not everybody who tries
        return SHARED_OUT
    texts = TrialTexts.of(base)
    try:
        for packing in texts.packings():
            both = BothForms(packing)
            # The plain form: of others a card's libraries prepare one for each shape, for seconds.
            with evaluating(base), attending(base, both), sdpa_kernel(SDPBackend.MATH):
                text_decoder(base)(
                    input_ids=packing.tokens[None], position_ids=packing.positions[None], use_cache=False
                )
            if not both.apart <= TOLERANCE:
                return f"by the kernel a trial's numbers differed by {both.apart:.1%} of the largest"
    except Exception as error:  # whatever a kernel refuses with
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


class BothForms(PackedAttention):
    """Attention with padding, held against the kernel's wherever that takes the queries.

    Args:
        packing: Which token is whose.

    Attributes:
        apart: The largest difference of outputs and of gradients so far, as part of the largest number.
    """

    def __init__(self, packing: Packing) -> None:
        super().__init__(packing)
        self.apart = 0.0

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None, dropout: float
    ) -> Tensor:
        """By padding, whatever the kernel gave."""
        if takes(query):
            for tried in {window, None if window is None else min(SHORT, window)}:
                found = self.with_gradients(True, query, key, value, scaling, tried)
                expected = self.with_gradients(False, query, key, value, scaling, tried)
                self.apart = max(self.apart, *map(difference, found, expected))
        return self.by_padding(query, key, value, scaling, window)

    def with_gradients(
        self, kernel: bool, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> list[Tensor]:
        """What a form gives, and the gradients of a sum of it, each number weighed otherwise."""
        with torch.enable_grad():
            states = q, k, v = [part.detach().requires_grad_() for part in (query, key, value)]
            seen = (self.by_kernel if kernel else self.by_padding)(q, k, v, scaling, window)
            weights = torch.arange(seen.numel(), device=seen.device).view_as(seen).cos().to(seen.dtype)
            return [seen.detach(), *torch.autograd.grad(seen, states, weights)]
