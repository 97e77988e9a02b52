"""Norms by one kernel, held against the model's own; here they are taken for those of a card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from laser_pl.logprobs import fused_norms as module
from laser_pl.logprobs.fused_norms import fused_norms
from laser_pl.logprobs.packed import shared_logprobs
from tests.causal_families import make
from tests.logprobs.test_packed import CASES, VOCABULARY


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Norms of this machine count as a card's; those that were computed by the kernel."""
    seen: list[Any] = []
    usual = module._fused

    def noted(norm: Any, hidden: Tensor) -> Tensor:
        seen.append(norm)
        return usual(norm, hidden)

    monkeypatch.setattr(module, "on_card", lambda part: type(part).__name__.endswith("RMSNorm"))
    monkeypatch.setattr(module, "_fused", noted)
    return seen


def weighted(model: Any) -> Any:
    """Weights of norms that differ from one another, as after training."""
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def test_a_model_with_fused_norms_says_the_same(causal_model: Callable[..., Any], fused: list[Any]) -> None:
    model = weighted(causal_model("llama", VOCABULARY))
    found = shared_logprobs(model, *CASES["ragged"])
    assert len(set(fused)) == 2 * model.config.num_hidden_layers + 1
    assert not any("forward" in vars(norm) for norm in fused)
    module._known[model] = []
    torch.testing.assert_close(found, shared_logprobs(model, *CASES["ragged"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "plain"), [("llama", True), ("qwen3", True), ("gemma", False), ("gemma3_text", False)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("fused")
def test_norms_that_scale_otherwise_are_left_alone(family: str, plain: bool, dtype: torch.dtype) -> None:
    model = weighted(make(family, dtype=dtype))
    with fused_norms(model):
        replaced = {type(part).__name__ for part in model.modules() if "forward" in vars(part)}
    assert bool(replaced) is plain


def test_what_is_not_of_the_weights_type_is_computed_as_ever(
    causal_model: Callable[..., Any], fused: list[Any]
) -> None:
    model = causal_model("llama", VOCABULARY, torch.bfloat16)
    with fused_norms(model):
        fused.clear()
        for hidden, calls in ((torch.ones(1, 32), 0), (torch.ones(1, 32, dtype=torch.bfloat16), 1)):
            model.model.norm(hidden)
            assert len(fused) == calls


def test_only_a_card_has_them(causal_model: Callable[..., Any]) -> None:
    model = causal_model("llama", VOCABULARY, torch.bfloat16)
    with fused_norms(model):
        assert not any("forward" in vars(part) for part in model.modules())
