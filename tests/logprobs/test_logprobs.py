"""Log-probabilities of whole batches against one token after the other, with neither padding nor mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laser_pl.logprobs.padded import position_ids, response_logprobs

VOCABULARY = 60
PROMPTS = [[5, 9, 17], [8], [30, 31, 32, 33, 34, 35, 36, 37, 38], [12, 12]]
RESPONSES = [[7, 3, 1], [20, 21, 22, 23, 24, 25, 26, 1], [1], [40, 2, 40, 2, 40]]


def padded(rows: list[list[int]], side: str, width: int) -> tuple[Tensor, Tensor]:
    """Tokens and mask."""
    tokens = [[0] * (width - len(r)) + r if side == "left" else r + [0] * (width - len(r)) for r in rows]
    masks = [[0] * (width - len(r)) + [1] * len(r) if side == "left" else [1] * len(r) + [0] * (width - len(r))
             for r in rows]  # fmt: skip
    return torch.tensor(tokens), torch.tensor(masks)


def batch(more_left: int = 0, more_right: int = 0, rows: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rows' arguments for ``response_logprobs``, with more padding than they need."""
    prompts, responses = PROMPTS[rows], RESPONSES[rows]
    return (
        *padded(prompts, "left", max(map(len, prompts)) + more_left),
        *padded(responses, "right", max(map(len, responses)) + more_right),
    )


@torch.no_grad()
def slow_logprob(model: Any, prompt: list[int], response: list[int]) -> float:
    """Feed every prefix alone and normalise the last logits in numpy."""
    total = 0.0
    for t, token in enumerate(response):
        logits = model(torch.tensor([prompt + response[:t]])).logits[0, -1].double().numpy()
        top = logits.max()
        total += float(logits[token] - top - np.log(np.exp(logits - top).sum()))
    return total


def test_equals_one_token_after_the_other(family: str, causal_model: Callable[..., Any]) -> None:
    model = causal_model(family, VOCABULARY, torch.float64)
    expected = [slow_logprob(model, p, r) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    with torch.no_grad():
        found = response_logprobs(model, *batch())
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("more_left", "more_right"), [(3, 0), (0, 4), (6, 2)])
def test_padding_changes_nothing(
    family: str, causal_model: Callable[..., Any], more_left: int, more_right: int
) -> None:
    model = causal_model(family, VOCABULARY, torch.float64)
    with torch.no_grad():
        found = response_logprobs(model, *batch(more_left, more_right))
        alone = [float(response_logprobs(model, *batch(rows=slice(row, row + 1)))) for row in range(len(PROMPTS))]
    assert found.tolist() == pytest.approx(alone, abs=1e-10)


def test_padding_changes_no_gradient(family: str, causal_model: Callable[..., Any]) -> None:
    model = causal_model(family, VOCABULARY, torch.float64)
    weight = model.get_input_embeddings().weight

    def gradient(*arguments: Tensor) -> Tensor:
        return torch.autograd.grad(response_logprobs(model, *arguments).sum(), weight)[0]

    together = gradient(*batch(more_left=2, more_right=2))
    alone = sum(gradient(*batch(rows=slice(row, row + 1))) for row in range(len(PROMPTS)))
    # Layer norms of several families compute in float32 whatever the model's type; hence not 1e-10.
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6 * float(together.abs().max()))


def test_what_lies_under_the_mask_is_never_read(causal_model: Callable[..., Any]) -> None:
    model = causal_model("llama", VOCABULARY, torch.float64)
    tokens, mask, response_tokens, response_mask = batch(more_left=1, more_right=1)
    junk = torch.full_like(tokens, 55), torch.full_like(response_tokens, 44)
    with torch.no_grad():
        clean = response_logprobs(model, tokens, mask, response_tokens, response_mask)
        dirty = response_logprobs(
            model,
            torch.where(mask == 1, tokens, junk[0]),
            mask,
            torch.where(response_mask == 1, response_tokens, junk[1]),
            response_mask,
        )
    assert dirty.tolist() == pytest.approx(clean.tolist(), abs=1e-10)


def test_an_empty_response_is_certain(causal_model: Callable[..., Any]) -> None:
    model = causal_model("llama", VOCABULARY)
    tokens, mask, response_tokens, response_mask = batch()
    with torch.no_grad():
        found = response_logprobs(model, tokens, mask, response_tokens, torch.zeros_like(response_mask))
    assert found.tolist() == [0.0] * len(PROMPTS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_are_float32_where_the_model_is_narrower(causal_model: Callable[..., Any], dtype: torch.dtype) -> None:
    model = causal_model("llama", VOCABULARY, dtype)
    with torch.no_grad():
        found = response_logprobs(model, *batch())
        logits = model(torch.tensor([PROMPTS[1] + RESPONSES[1]])).logits[0].double()
    # The logits are rounded by the model, their normalisation and sum are not.
    expected = sum(float(logits[t].log_softmax(-1)[token]) for t, token in enumerate(RESPONSES[1]))
    assert found.dtype == torch.float32
    assert float(found[1]) == pytest.approx(expected, abs=len(RESPONSES[1]) * 8 * torch.finfo(dtype).eps)


def test_positions_count_from_the_first_real_token() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 3]]
