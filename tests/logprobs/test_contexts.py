"""The context of a prompt is the hidden state of its last token, as if it were read alone and without padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from laser_pl.batches import Prompt
from laser_pl.data.prompts import encode
from laser_pl.logprobs.logprob_model import LogprobModel
from laser_pl.logprobs.shared_prefix import SHARED_PREFIX_FROM, shared_prefix

TEXTS = ["abc", "a longer question than others", "12+30=", "x"]
START = "(1+2)*3=9 (2+2)*2=8 "


def alone(model: Any, tokenizer: Any, text: str) -> torch.Tensor:
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    return model(ids, output_hidden_states=True).hidden_states[-1][0, -1]


@pytest.mark.parametrize("share", [True, False], ids=["in a row", "side by side"])
@pytest.mark.parametrize("budget", [1, 40, 10_000])
@pytest.mark.parametrize("start", ["", START], ids=["", "shared prefix"])
def test_it_is_that_of_the_prompt_alone(
    family: str, causal_model: Callable[..., Any], tokenizer: Any, share: bool, budget: int, start: str
) -> None:
    model, texts = causal_model(family, len(tokenizer)), [start + text for text in TEXTS]
    prompts = encode([Prompt(text, text, text) for text in texts], tokenizer, limit=200)
    assert (shared_prefix(prompts.tokens, prompts.mask) >= SHARED_PREFIX_FROM) is bool(start)
    logprob_model = LogprobModel(model, budget, share)
    assert logprob_model.shares is share
    found = logprob_model.contexts(prompts)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    with torch.no_grad():
        expected = torch.stack([alone(model, tokenizer, text) for text in texts])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_no_prompt_is_longer_for_its_neighbours(causal_model: Callable[..., Any], tokenizer: Any) -> None:
    """Tokens that a forward reads keep to the budget, and are no padding."""
    model, read = causal_model("llama", len(tokenizer)), []
    logprob_model = LogprobModel(model, 30)
    model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    prompts = encode([Prompt(text, text, text) for text in TEXTS], tokenizer, limit=200)
    logprob_model.contexts(prompts)
    assert sum(read) == int(prompts.mask.sum())
    assert max(read) <= 30
