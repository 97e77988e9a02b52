"""A text by which a server's base model is distinguished from others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from laser_pl.logprobs.modes import evaluating

if TYPE_CHECKING:
    from peft import PeftModel

_TEXT = "The quick brown fox jumps over 12 lazy dogs; is 3 + 4 = 7? Answer: yes, since 7 is the sum of 3 and 4."
_TOKENS = 40


@dataclass(frozen=True)
class Probe:
    """A text, and what the policy's base makes of it.

    Attributes:
        text: It.
        ids: Its ``T`` token ids.
        logprobs: Of all but the first, in nats. On the CPU. Shape ``(T - 1,)``.
    """

    text: str
    ids: list[int]
    logprobs: Tensor

    @staticmethod
    def of(model: PeftModel, tokenizer: Any) -> Probe:
        """That of a model without its adapter; every process calls it."""
        text = _readable(tokenizer)
        ids: list[int] = tokenizer(text)["input_ids"]
        tokens = torch.tensor([ids], device=model.device)
        with evaluating(model), model.disable_adapter():
            logits = model.get_base_model()(input_ids=tokens, use_cache=False).logits[0].float()  # (T, V)
        return Probe(text, ids, logits[:-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0].cpu())


def _readable(tokenizer: Any) -> str:
    """English, or what the tokenizer's own tokens say where it knows no English."""
    try:
        tokenizer(_TEXT)
    except Exception:  # whatever a tokenizer raises that has no token for something
        every = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
        return str(tokenizer.decode(every[:_TOKENS]))
    return _TEXT
