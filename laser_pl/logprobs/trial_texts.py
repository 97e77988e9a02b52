"""A few short texts on which it is tried how a model can be read and written with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.logprobs.in_float32 import InFloat32, is_narrow
from laser_pl.logprobs.modes import evaluating
from laser_pl.logprobs.packing import Packing, pack
from laser_pl.logprobs.padding import pad_left
from laser_pl.logprobs.shared_prefix import padded_right
from laser_pl.runtime.sharding import is_sharded

START = 2
"""Tokens that all prompts begin with."""

PROMPTS = (4, 7, 5)
"""Their lengths."""

RESPONSES = 2
"""To each of them."""

LONGEST = 4
"""Tokens of a response."""

TOLERANCE = 2e-3
"""Of the largest logit. In float32 rounding makes up to 7e-4 of it (Zamba 2); what was ever wrong made a tenth."""

TOLERANCE_OF_INT8 = 5e-2
"""The same where bitsandbytes rounds activations to 8 bits, for all rows of a forward alike (1 % is seen)."""


@dataclass(frozen=True)
class TrialTexts:
    """Three prompts of unlike length that begin alike, and two responses to each.

    Attributes:
        prompts: ``B`` prompts, padded on the left.
        prompt: The prompt of each response. Shape ``(R,)``.
        responses: All of one length. Shape ``(R, T)``.
        tolerance: What rounding may change in a logit, as part of the largest.
    """

    prompts: PromptBatch
    prompt: Tensor
    responses: Tensor
    tolerance: float

    @staticmethod
    def of(base: Any) -> TrialTexts:
        """In a model's vocabulary, without its padding."""
        device = base.get_input_embeddings().weight.device
        config = base.config.get_text_config()
        first, pad = min(3, config.vocab_size - 1), getattr(config, "pad_token_id", None)
        ids = [id_ for id_ in range(first, config.vocab_size) if id_ != pad]
        count = sum(PROMPTS) + len(PROMPTS) * RESPONSES * LONGEST
        some = [ids[7 * step % len(ids)] for step in range(count)]
        prompts = [[*some[:START], *some[5 * row + START : 5 * row + length]] for row, length in enumerate(PROMPTS)]
        tokens, mask = pad_left(prompts, ids[0], device)
        prompt = torch.arange(len(PROMPTS), device=device).repeat_interleave(RESPONSES)
        responses = torch.tensor(some[-len(prompt) * LONGEST :], device=device).view(-1, LONGEST)
        names = tuple(Prompt(str(row), "", "") for row in range(len(prompts)))
        tolerance = TOLERANCE_OF_INT8 if getattr(base, "is_loaded_in_8bit", False) else TOLERANCE
        return TrialTexts(PromptBatch(names, tokens, mask), prompt, responses, tolerance)

    def agree(self, found: Tensor, expected: Tensor) -> bool:
        """Whether two tensors of logits differ by no more than rounding explains, in the type they come in."""
        return difference(found, expected) <= max(
            self.tolerance, *(16 * torch.finfo(part.dtype).eps for part in (found, expected))
        )

    @property
    def whole(self) -> tuple[Tensor, Tensor]:
        """Each prompt with each of its responses, padded on the right, and the mask. Shapes ``(R, Tp + T)``."""
        tokens = torch.cat([self.prompts.tokens[self.prompt], self.responses], dim=-1)
        mask = torch.cat([self.prompts.mask[self.prompt], torch.ones_like(self.responses)], dim=-1)
        return padded_right(tokens, self.prompts.mask[self.prompt]), mask.sort(dim=-1, descending=True).values

    @property
    def cut(self) -> Tensor:
        """The responses' mask where they are cut to all lengths there can be. Shape ``(R, T)``."""
        steps = torch.arange(LONGEST, device=self.responses.device)
        lengths = torch.arange(len(self.responses), device=self.responses.device) % LONGEST + 1
        return (steps < lengths[:, None]).long()

    def packings(self) -> Iterator[Packing]:
        """The texts packed, with responses of all lengths, each prompt whole and with what all begin with once."""
        for start in (0, START):
            yield pack(self.prompts.tokens, self.prompts.mask, self.prompt, self.responses, self.cut, start)

    @property
    def predicting(self) -> Tensor:
        """Which tokens of these predict the responses', counted from each text's first. Shape ``(R, T)``."""
        last = self.prompts.mask.sum(-1)[self.prompt] - 1
        return last[:, None] + torch.arange(LONGEST, device=last.device)


@contextmanager
def unblurred(base: Any) -> Iterator[None]:
    """A block in which a model computes in evaluation mode and in float32 at least, whatever type its weights have.

    Its attention is torch's where it is a kernel's that has no float32. Where other kernels have none either, it stays
    with its own type; so it does where its weights are shared out, since they are gathered within the block.
    """
    config, usual = base.config, base.config._attn_implementation
    with evaluating(base), torch.autocast(base.device.type, enabled=False):
        if "flash" in usual:
            config._attn_implementation = "sdpa"
        try:
            with InFloat32() if is_narrow(base) and not is_sharded(base) and _computes_wide(base) else nullcontext():
                yield
        finally:
            config._attn_implementation = usual


_wide: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def _computes_wide(base: Any) -> bool:
    """Whether a model of half precision can be made to compute in float32."""
    if base not in _wide:
        tokens, _ = TrialTexts.of(base).whole
        try:
            with InFloat32():
                base(input_ids=tokens[:1], use_cache=False)
            _wide[base] = True
        except Exception:  # whatever a kernel raises
            _wide[base] = False
    return _wide[base]


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two tensors of logits, as part of the largest number expected; NaN is none."""
    same = found == expected  # an id that is never drawn may have minus infinity
    distance = (found - expected).masked_fill(same, 0).abs().max()
    return float(distance / expected.masked_fill(expected.isinf(), 0).abs().max())
