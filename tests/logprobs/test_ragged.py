"""Attention by a kernel over sequences as they lie, held against the same side by side; the kernel is a twin here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laser_pl.logprobs import attention, kernel_trial, packed, ragged
from laser_pl.logprobs.attention import PackedAttention
from laser_pl.logprobs.kernel_trial import kernel_suits
from laser_pl.logprobs.packed import shared_logprobs
from laser_pl.logprobs.packing import Packing, pack
from tests.logprobs.test_packed import CASES, VOCABULARY, inputs, loss_and_gradients, with_adapter


def varlen_twin(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    return_aux: Any = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """What torch says of ``varlen_attn``, sequence by sequence; masks lie at the lower right, as FlashAttention's."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert len(cu_seq_q) == len(cu_seq_k)
    left, right = window_size
    groups = query.shape[1] // key.shape[1]
    parts = []
    for (q0, q1), (k0, k1) in zip(
        *(zip(c.tolist(), c.tolist()[1:], strict=False) for c in (cu_seq_q, cu_seq_k)), strict=True
    ):
        assert 0 < q1 - q0 <= max_q
        assert 0 < k1 - k0 <= max_k
        q, k, v = query[q0:q1], key[k0:k1].repeat_interleave(groups, 1), value[k0:k1].repeat_interleave(groups, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
        place = torch.arange(q1 - q0)[:, None] + (k1 - k0) - (q1 - q0)
        other = torch.arange(k1 - k0)
        seen = torch.ones(len(place), len(other), dtype=torch.bool)
        if left >= 0:
            seen &= other >= place - left
        if right >= 0:
            seen &= other <= place + right
        parts.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v))
    return torch.cat(parts)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A kernel for any device and type; the windows it was called with."""
    windows: list[tuple[int, int]] = []

    def twin(*args: Any, window_size: tuple[int, int], **kwargs: Any) -> Tensor:
        windows.append(window_size)
        return varlen_twin(*args, window_size=window_size, **kwargs)

    monkeypatch.setattr(ragged, "varlen_attn", twin)
    monkeypatch.setattr(kernel_trial, "kernel_on", lambda device: True)
    for module in (attention, kernel_trial):
        monkeypatch.setattr(module, "takes", lambda query: True)
    return windows


def states_of(packing: Packing, heads: int, kv_heads: int, size: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    tokens = len(packing.tokens)
    return [
        torch.randn(1, tokens, count, size, dtype=torch.float64, generator=generator).transpose(1, 2).requires_grad_()
        for count in (heads, kv_heads, kv_heads)
    ]


STARTS = {"a shared prefix": 20, "a shared prefix, one length": 20, "all prompts the same": 20}


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)], ids=["own keys", "shared keys", "one key"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("window", [None, 1, 5, 16, 100])
def test_equals_side_by_side_in_float64(name: str, window: int | None, heads: tuple[int, int]) -> None:
    packing = pack(*CASES[name], STARTS.get(name, 0))
    form = PackedAttention(packing)
    states = states_of(packing, *heads)
    found, expected = form.by_kernel(*states, 0.3, window), form.by_padding(*states, 0.3, window)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    upstream = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gradients = [torch.autograd.grad(result, states, upstream) for result in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("family_", "case"), [("llama", "a shared prefix"), ("qwen2 with sliding window", "ragged")])
def test_log_probabilities_and_gradients_of_models_are_the_same(
    family_: str, case: str, causal_model: Callable[..., Any], kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_adapter(causal_model(family_, VOCABULARY), family_)
    found, gradient = loss_and_gradients(shared_logprobs, model, CASES[case])
    assert kernel
    monkeypatch.setattr(packed, "kernel_suits", lambda base: False)
    kernel.clear()
    expected, by_padding = loss_and_gradients(shared_logprobs, model, CASES[case])
    assert not kernel
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, by_padding, rtol=0, atol=1e-5 * float(by_padding.abs().max()))


def test_dropout_stays_side_by_side(kernel: Any) -> None:
    packing = pack(*CASES["ragged"])
    form = PackedAttention(packing, kernel=True)
    for dropout, calls in ((0.5, 0), (0.0, 1)):
        form(None, *states_of(packing, 4, 2), dropout=dropout, scaling=None, sliding_window=None)
        assert len(kernel) == calls


def test_a_window_is_told_as_the_tokens_before_ones_own(kernel: Any) -> None:
    packing = pack(*CASES["ragged"])
    form = PackedAttention(packing, kernel=True)
    for window in (None, 5, 10**6):
        form(None, *states_of(packing, 4, 2), dropout=0.0, scaling=None, sliding_window=window)
    assert kernel == [(-1, 0), (4, 0), (-1, 0)]


@pytest.mark.parametrize("mixed", [False, True], ids=["in bfloat16", "in mixed precision"])
def test_a_cpu_computes_16_bits_in_float32(mixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is float32's, rounded once, forward and backward; not so on a machine whose plans are for a card."""
    packing = pack(*CASES["ragged"])
    form = PackedAttention(packing)
    narrow = [state.detach().bfloat16() for state in states_of(packing, 4, 2)]
    given = [state.to(torch.float32 if mixed else torch.bfloat16).requires_grad_() for state in narrow]
    wide = [state.float().requires_grad_() for state in narrow]

    def found() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            return form.attend(*given, 0.3, None, 0.0)

    expected = form.by_padding(*wide, 0.3, None)
    assert torch.equal(found(), expected.to(given[0].dtype))
    upstream = torch.ones_like(expected)
    gradients = torch.autograd.grad(found(), given, upstream.to(given[0].dtype))
    for one, other in zip(gradients, torch.autograd.grad(expected, wide, upstream), strict=True):
        assert torch.equal(one, other.to(one.dtype))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not torch.equal(found().float(), expected)


def test_a_cpu_and_a_wide_type_stay_side_by_side(causal_model: Callable[..., Any]) -> None:
    assert not ragged.takes(torch.zeros(1, dtype=torch.bfloat16))
    assert not kernel_suits(causal_model("llama", VOCABULARY, torch.bfloat16))


@pytest.mark.parametrize(("mixed", "takes"), [(None, False), (torch.bfloat16, True), (torch.float16, True)])
def test_mixed_precision_counts_as_its_own_type(
    mixed: torch.dtype | None, takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ragged, "kernel_on", lambda device: True)
    with torch.autocast("cpu", dtype=mixed or torch.bfloat16, enabled=mixed is not None):
        assert ragged.takes(torch.zeros(1)) is takes
        assert ragged.takes(torch.zeros(1, dtype=torch.bfloat16))


def test_a_kernel_that_is_right_is_taken_without_a_word(
    family: str, causal_model: Callable[..., Any], kernel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert kernel_suits(causal_model(family, VOCABULARY, dtype))
    assert kernel
    assert not caplog.records


def refuses(*args: Any, **kwargs: Any) -> Tensor:
    raise RuntimeError("head_size should be a multiple of 8")


def at_the_upper_left(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """As if masks began with a sequence's first key."""
    cut = []
    for (q0, q1), k0 in zip(zip(args[0].tolist(), args[0].tolist()[1:], strict=False), args[1].tolist(), strict=False):
        cut += range(k0, k0 + q1 - q0)
    return varlen_twin(query, key[cut], value[cut], args[0], args[0], args[2], args[2], **kwargs)


def a_token_too_many(*args: Any, window_size: tuple[int, int], **kwargs: Any) -> Tensor:
    left, right = window_size
    return varlen_twin(*args, window_size=(left + 1 if left >= 0 else left, right), **kwargs)


@pytest.mark.parametrize(
    ("wrong", "family_", "says"),
    [
        (refuses, "llama", "RuntimeError: head_size should be a multiple of 8"),
        (at_the_upper_left, "llama", "differed by"),
        (a_token_too_many, "qwen2 with sliding window", "differed by"),
    ],
)
def test_a_kernel_that_is_not_right_is_left_with_one_line(
    wrong: Callable[..., Tensor],
    family_: str,
    says: str,
    causal_model: Callable[..., Any],
    kernel: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = causal_model(family_, VOCABULARY, torch.bfloat16)
    monkeypatch.setattr(ragged, "varlen_attn", wrong)
    for _ in range(2):
        assert torch.isfinite(shared_logprobs(model, *CASES["ragged"])).all()
    (record,) = caplog.records
    assert record.message.startswith("Attention over shared prompts is computed with masks, which takes longer: ")
    assert says in record.message


class Largest(TorchDispatchMode):
    """The most numbers of a tensor that an operator made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        self.numbers = max([self.numbers, *(t.numel() for t in tree_leaves(result) if isinstance(t, Tensor))])
        return result


def test_memory_grows_with_the_tokens_and_not_with_their_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "varlen_attn", lambda query, *args, **kwargs: torch.zeros_like(query))
    largest: dict[bool, list[int]] = {True: [], False: []}
    for length in (64, 128, 256):
        packing = pack(*inputs([length, length], [(0, length + 1), (1, length + 1)], junk=0))
        states = [part.detach() for part in states_of(packing, 4, 2)]
        for kernel, numbers in largest.items():
            form = PackedAttention(packing)
            with Largest() as seen:
                form.by_kernel(*states, None, None) if kernel else form.by_padding(*states, None, None)
            numbers.append(seen.numbers)
    for (one, other), grows in ((largest[True][1:], 2), (largest[False][1:], 4)):
        assert other == grows * one
