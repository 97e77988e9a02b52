"""Which weights and which tokenizer something was made with, in a few characters each."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import torch

from laser_pl.errors import ConfigurationError

log = logging.getLogger(__name__)

Origin = Mapping[str, str]
"""``weights``, ``tokenizer`` and ``chat_template``, each as the start of a digest."""

_SUMMED_AT_A_TIME = 1 << 20
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_TEXTS = (
    "A",
    "a",
    "1",
    "12345",
    " a",
    "a ",
    "  a",
    "a\n\nb",
    "a\tb",
    "It's 1,000.5 (of a+b)?",
    "é",
    "ﬁ",
    "中文",
    "😀",
    "<|x|>",
)
"""Texts that tokenizers of one vocabulary cut up in different ways: spaces, digits, accents, Unicode's forms."""


def origin_of(model: torch.nn.Module, tokenizer: Any) -> dict[str, str]:
    """Of a model without an adapter, as it was loaded, and of its tokenizer."""
    return {
        "weights": weights_digest(model),
        "tokenizer": tokenizer_digest(tokenizer),
        "chat_template": _digest(getattr(tokenizer, "chat_template", None)),
    }


def weights_digest(model: torch.nn.Module) -> str:
    """Another one if a single weight is: of each tensor name, shape, type and the sum of its bits, read as integers."""
    return _digest([(name, tuple(weight.shape), str(weight.dtype), _sum_of_bits(weight.detach()))
                    for name, weight in model.named_parameters()])  # fmt: skip


def _sum_of_bits(weight: torch.Tensor) -> int:
    whole = weight.contiguous().view(-1).view(_INTEGERS[weight.element_size()])
    parts = torch.split(whole, _SUMMED_AT_A_TIME)  # torch widens all that it sums to 8 bytes each first
    return int(sum((part.sum(dtype=torch.int64) for part in parts), torch.tensor(0, device=whole.device)))


def tokenizer_digest(tokenizer: Any) -> str:
    """Another one if a token has another id, is special where it was not, or texts are cut up in another way."""
    ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    return _digest([sorted(tokenizer.get_vocab().items()), ends, [_cut_up(text, tokenizer) for text in _TEXTS]])


def _cut_up(text: str, tokenizer: Any) -> Any:
    try:
        return list(tokenizer(text, verbose=False)["input_ids"])
    except Exception:  # some tokenizers have no token for what they do not know
        return None


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def refuse_other_origin(made_with: Origin, now: Origin, what: str, name: str) -> None:
    """See whether something was made with the weights and the tokenizer that are there now.

    Another chat template is named and no more, like any other setting.

    Args:
        made_with: What it was made with; empty where nobody noted it.
        now: What is there.
        what: It, for messages.
        name: The weights' name.

    Raises:
        ConfigurationError: If weights or tokenizer are others.
    """
    other = {part for part in made_with if made_with[part] != now.get(part)}
    if "weights" in other:
        raise ConfigurationError(
            f"{what} was made with other weights than those of '{name}' now: its files have changed, or model.weights"
            " has. Put them back, or start a new run."
        )
    if "tokenizer" in other:
        raise ConfigurationError(
            f"{what} was made with another tokenizer than that of '{name}' now: tokens have other ids, or texts are cut"
            " up in another way. Put its files back, or start a new run."
        )
    if other:
        log.warning("The chat template of '%s' is another than the one %s was made with.", name, what)
