"""Each prompt read once against prompts repeated for their responses, family by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from laser_pl.logprobs.packed import shared_logprobs, why_not_shared
from laser_pl.logprobs.padded import response_logprobs
from laser_pl.logprobs.text_decoder import Head, as_logits
from laser_pl.logprobs.token_logprobs import token_logprobs
from laser_pl.models.language_model import Lora
from laser_pl.objectives.dpo import dpo_loss
from laser_pl.objectives.nll import nll_loss
from tests.causal_families import make

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # PEFT sets it for GPT-2
VOCABULARY = 60
TARGETS = {"gpt2": ("c_attn",)}


def inputs(
    prompt_lengths: list[int], responses: list[tuple[int, int]], seed: int = 0, junk: int = 2, start: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Random prompts and responses of these lengths, with more padding than they need; responses: (prompt, length).

    All prompts begin with the same ``start`` tokens, which count.
    """
    generator = torch.Generator().manual_seed(seed)
    width, length = max(prompt_lengths) + junk, max(length for _, length in responses) + junk
    tokens = torch.randint(2, VOCABULARY, (len(prompt_lengths), width), generator=generator)
    mask = (torch.arange(width) >= width - torch.tensor(prompt_lengths)[:, None]).long()
    for row, count in enumerate(prompt_lengths):
        tokens[row, width - count : width - count + start] = torch.arange(2, 2 + start)
    response_tokens = torch.randint(2, VOCABULARY, (len(responses), length), generator=generator)
    response_mask = (torch.arange(length) < torch.tensor([n for _, n in responses])[:, None]).long()
    return tokens, mask, torch.tensor([p for p, _ in responses]), response_tokens, response_mask


CASES = {
    "ragged": inputs([3, 1, 9, 12], [(0, 3), (0, 7), (2, 1), (2, 11), (2, 4), (1, 5), (3, 2)]),
    "one length": inputs([6, 6], [(0, 4), (0, 4), (1, 4), (1, 4), (1, 4)], junk=0),
    "one token": inputs([1, 2], [(0, 1), (1, 1), (1, 1)]),
    "a prompt without responses": inputs([4, 7, 2], [(0, 3), (2, 8)]),
    "in any order": inputs([5, 8], [(1, 3), (0, 9), (1, 8), (0, 2)]),
    "longer than the window": inputs([20, 3], [(0, 15), (1, 12), (1, 2), (0, 1)]),
    "a shared prefix": inputs([25, 22, 31], [(2, 3), (0, 7), (0, 1), (1, 12), (2, 1)], start=20),
    "a shared prefix, one length": inputs([24, 24], [(0, 4), (0, 4), (1, 4)], junk=0, start=20),
    "all prompts the same": inputs([22, 22, 22], [(0, 3), (1, 7), (2, 1)], start=22),
}


def plain_logprobs(model: Any, tokens: Tensor, mask: Tensor, prompt: Tensor, *responses: Tensor) -> Tensor:
    return response_logprobs(model, tokens[prompt], mask[prompt], *responses)


def with_adapter(base: Any, family: str, dropout: float = 0.0) -> Any:
    """LoRA on the attention, both of its matrices random, so that it does something."""
    model = Lora(rank=4, alpha=8, dropout=dropout, targets=TARGETS.get(family, ("q_proj", "v_proj"))).wrap(base)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            with torch.no_grad():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def loss_and_gradients(function: Callable[..., Tensor], model: Any, case: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """DPO of each response against the next, with an NLL on each; and the gradients in one vector."""
    logprobs = function(model, *case)
    margin = logprobs - logprobs.roll(1)
    loss = dpo_loss(margin, torch.zeros_like(margin), 0.1).mean() + nll_loss(logprobs, case[-1].sum(-1)).mean()
    gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    return logprobs, torch.cat([gradient.flatten() for gradient in gradients])


@pytest.fixture
def widened(monkeypatch: pytest.MonkeyPatch) -> None:
    """No float32 inside a float64 model, where transformers normalises so."""
    to = torch.Tensor.to

    def stay(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        narrows = torch.float32 in args or kwargs.get("dtype") is torch.float32
        return tensor if tensor.dtype == torch.float64 and narrows else to(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", stay)
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: stay(tensor, torch.float32))


def frequencies_in_float32(model: Any) -> None:
    """Rotary frequencies as newer transformers make them, whatever the model's own type; positions are float32 too."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name.endswith("inv_freq"):
                setattr(module, name, torch.empty_like(buffer, dtype=torch.float32).copy_(buffer))


@pytest.mark.usefixtures("widened")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_repeated_prompts_in_float64(family: str, causal_model: Callable[..., Any], case: Any) -> None:
    model = with_adapter(causal_model(family, VOCABULARY, torch.float64), family)
    frequencies_in_float32(model)
    (found, gradient), (expected, by_plain) = (
        loss_and_gradients(function, model, case) for function in (shared_logprobs, plain_logprobs)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradient, by_plain, rtol=0, atol=1e-10 * float(by_plain.abs().max()))


def test_equals_repeated_prompts_in_float64_as_transformers_computes_it(
    family: str, causal_model: Callable[..., Any]
) -> None:
    """Llama, Qwen and Gemma normalise in float32 even so, forward and backward.

    Forward that rounds each token alike however it is read. Backward a shared prompt's gradient is summed before it is
    rounded, a repeated one's after: up to 2e-7 of the largest gradient, measured. GPT-2 keeps 1e-10.
    """
    model, case = with_adapter(causal_model(family, VOCABULARY, torch.float64), family), CASES["ragged"]
    (found, gradient), (expected, by_plain) = (
        loss_and_gradients(function, model, case) for function in (shared_logprobs, plain_logprobs)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    bound = 1e-10 if family == "gpt2" else 1e-6
    torch.testing.assert_close(gradient, by_plain, rtol=0, atol=bound * float(by_plain.abs().max()))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_repeated_prompts_in_float32(family: str, causal_model: Callable[..., Any], case: Any) -> None:
    model = with_adapter(causal_model(family, VOCABULARY), family)
    (found, gradient), (expected, by_plain) = (
        loss_and_gradients(function, model, case) for function in (shared_logprobs, plain_logprobs)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, by_plain, rtol=0, atol=1e-5 * float(by_plain.abs().max()))


def test_what_all_prompts_begin_with_is_read_once(causal_model: Callable[..., Any]) -> None:
    model, case = causal_model("llama", VOCABULARY), CASES["a shared prefix"]
    assert why_not_shared(model) is None
    seen = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
    shared_logprobs(model, *case)
    assert seen == [20 + (5 + 2 + 11) + (2 + 6 + 0 + 11 + 0)]


def test_every_family_can_be_shared(family: str, causal_model: Callable[..., Any]) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert why_not_shared(causal_model(family, VOCABULARY, dtype)) is None


def test_attention_is_as_before_afterwards(causal_model: Callable[..., Any]) -> None:
    model = causal_model("llama", VOCABULARY).train()
    usual = model.config._attn_implementation
    assert why_not_shared(model) is None
    assert model.training
    assert model.config._attn_implementation == usual


def test_what_a_model_does_to_its_logits_behind_the_head_is_done(causal_model: Callable[..., Any]) -> None:
    """As Granite and Cohere do."""
    model = causal_model("llama", VOCABULARY)
    unscaled = shared_logprobs(model, *CASES["ragged"])

    def scaled(_: Any, __: Any, output: Any) -> Any:
        output.logits = output.logits * 0.9
        return output

    model.register_forward_hook(scaled)
    assert why_not_shared(model) is None
    found = shared_logprobs(model, *CASES["ragged"])
    torch.testing.assert_close(found, plain_logprobs(model, *CASES["ragged"]), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, unscaled, atol=0.1)


def test_a_window_that_attention_is_not_told_of_is_found_out(causal_model: Callable[..., Any]) -> None:
    model = causal_model("qwen2 with sliding window", VOCABULARY)
    for layer in model.model.layers:
        layer.self_attn.sliding_window = None
    assert "its configuration says [None, 5]" in str(why_not_shared(model))


def test_a_layer_of_unknown_type_is_named(causal_model: Callable[..., Any]) -> None:
    model = make("llama4_text")
    assert "chunked_attention" in str(why_not_shared(model))


@pytest.mark.parametrize("frozen", [True, False])
def test_log_probabilities_in_chunks_equal_those_at_once(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the head is trained or not."""
    torch.manual_seed(0)
    head = torch.nn.Linear(5, 11).double()
    head.requires_grad_(not frozen)
    hidden, target = torch.randn(23, 5, dtype=torch.float64, requires_grad=True), torch.randint(11, (23,))
    weights = torch.randn(23, dtype=torch.float64)
    wanted = [hidden, *(p for p in head.parameters() if p.requires_grad)]
    expected = head(hidden).log_softmax(-1).gather(1, target[:, None])[:, 0]
    monkeypatch.setattr("laser_pl.logprobs.token_logprobs.NUMBERS_PER_CHUNK", 4 * 11)
    found = token_logprobs(Head(head, 11, frozen), hidden, target)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad((values * weights).sum(), wanted) for values in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_frozen_head_is_as_exact_as_its_type(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64, with a soft cap behind the head, another factor on each row, and chunks of several blocks.

    The second row's target is next to impossible, the third's next to certain.
    """
    torch.manual_seed(0)
    weight, bias = torch.randn(401, 16).to(dtype), torch.zeros(401, dtype=dtype)
    bias[7], bias[9] = -60, 60
    hidden, target = torch.randn(23, 16).to(dtype), torch.randint(401, (23,))
    target[1], target[2] = 7, 9
    upstream = torch.randn(23, dtype=torch.float64)

    def capped(states: Tensor) -> Tensor:
        return 50 * torch.tanh(torch.nn.functional.linear(states, weight.to(states), bias.to(states)) / 50)

    wide = hidden.double().requires_grad_()
    expected = capped(wide).log_softmax(-1).gather(1, target[:, None])[:, 0]
    (gradient,) = torch.autograd.grad((expected * upstream).sum(), wide)
    monkeypatch.setattr("laser_pl.logprobs.token_logprobs.NUMBERS_PER_CHUNK", 10 * 401)
    monkeypatch.setattr("laser_pl.logprobs.token_logprobs.NUMBERS_PER_BLOCK", 3 * 401)
    narrow = hidden.clone().requires_grad_()
    found = token_logprobs(Head(capped, 401, True), narrow, target)
    (slope,) = torch.autograd.grad((found * upstream.to(found)).sum(), narrow)
    with torch.no_grad():
        assert torch.equal(token_logprobs(Head(capped, 401, True), hidden, target), found)
    assert found.dtype == torch.float32
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    for one, other in ((found, expected), (slope, gradient)):
        assert float((one.detach() - other.detach()).abs().max() / other.detach().abs().max()) < tolerance


def test_logits_in_the_place_of_hidden_states_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of one chunk is not written over by the next."""
    torch.manual_seed(0)
    logits, target = torch.randn(23, 11, dtype=torch.float64, requires_grad=True), torch.randint(11, (23,))
    before = logits.detach().clone()
    monkeypatch.setattr("laser_pl.logprobs.token_logprobs.NUMBERS_PER_CHUNK", 4 * 11)
    found = token_logprobs(*as_logits(logits)[::-1], target)
    expected = logits.log_softmax(-1).gather(1, target[:, None])[:, 0]
    gradients = [torch.autograd.grad(values.sum(), logits)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(("card", "chunks"), [(False, [4, 4, 4, 4, 4, 3]), (True, [16, 7])])
def test_more_logits_exist_at_once_where_there_is_a_card(
    card: bool, chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def logits(hidden: Tensor) -> Tensor:
        seen.append(len(hidden))
        return hidden.repeat(1, 3)[:, :11]

    monkeypatch.setattr("laser_pl.logprobs.token_logprobs.NUMBERS_PER_CHUNK", 4 * 11)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    with torch.no_grad():
        token_logprobs(Head(logits, 11, True), torch.ones(23, 5), torch.zeros(23, dtype=torch.long))
    assert seen == chunks
