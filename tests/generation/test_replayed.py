"""Writing with a forward of fixed shape against the one that grows; a card's graph has a twin that asks no Python."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laser_pl.batches import PromptBatch
from laser_pl.generation import replayed as module
from laser_pl.generation import way
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.stop_strings import TOKENS_BETWEEN_LOOKS
from laser_pl.generation.way import FASTEST, REPLAYED, way_of
from laser_pl.generation.ways import Choice
from laser_pl.logprobs.modes import evaluating
from tests.generation.test_sampler import EOS, PAD, SEED, TEXTS, prefer, prompts_of


class Noting:
    """Takes the likeliest token, but for some that end, and notes what the model thought."""

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self.rows: Tensor | None = None

    def keep(self, rows: Tensor) -> None:
        self.rows = rows if self.rows is None else self.rows[rows]

    def __call__(self, seen: Tensor, scores: Tensor) -> Tensor:
        whole = torch.full((self.count(len(scores)), scores.shape[1]), torch.nan)
        whole[torch.arange(len(scores)) if self.rows is None else self.rows] = scores
        self.scores.append(whole)
        return scores

    def count(self, rows: int) -> int:
        return len(self.scores[0]) if self.scores else rows


def written(way: Any, model: Any, prompts: PromptBatch, n: int, longest: int) -> tuple[Tensor, Tensor]:
    noting = Noting()
    choice = Choice(n, longest, [noting], never=[], eos=[EOS], pad=PAD)
    with evaluating(model):
        tokens = way.call(model, prompts, choice)
    return tokens, torch.stack(noting.scores[: tokens.shape[1]])


@pytest.mark.parametrize("before", ["", "the same beginning for all: "])
def test_tokens_and_logits_are_those_of_the_growing_form(
    family: str, causal_model: Callable[..., Any], tokenizer: Any, before: str
) -> None:
    model = causal_model(family, len(tokenizer))
    prefer(model, EOS, 1.5)
    prompts, longest = prompts_of([before + text for text in TEXTS], tokenizer), TOKENS_BETWEEN_LOOKS + 3
    (found, logits), (expected, true) = (written(way, model, prompts, 2, longest) for way in (REPLAYED, FASTEST))
    assert torch.equal(found, expected)
    there = (found != PAD).T
    assert not true[there].isnan().any()
    torch.testing.assert_close(logits[there], true[there], rtol=1e-5, atol=1e-5)


class Recorder(TorchDispatchMode):
    """Records operators, and refuses what a card cannot capture: to look at a number."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **kwargs or {})
        self.calls.append((func, args, kwargs or {}, result))
        return result


class Recorded:
    """A twin of ``Captured``: operators are done again on the same tensors, and their results put where they were."""

    made = 0

    def __init__(self, call: Callable[[], Tensor], device: torch.device) -> None:
        type(self).made += 1
        call()
        with Recorder() as self.seen:
            self.result = call()

    def replay(self) -> Tensor:
        for func, args, kwargs, before in self.seen.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(before), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)
        return self.result


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(module, "Captured", Recorded)
    for part in (module, way):
        monkeypatch.setattr(part, "capturable", lambda device: True)
    monkeypatch.setattr(Recorded, "made", 0)
    return Recorded


def sampled(which: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Any:
    monkeypatch.setattr("laser_pl.generation.sampler.way_of", lambda _: which)
    return sample_responses(model, tokenizer, prompts_of(TEXTS, tokenizer), Sampling(**how), SEED)


def test_a_replay_that_asks_nothing_of_python_writes_the_same(
    family: str,
    causal_model: Callable[..., Any],
    tokenizer: Any,
    recorded: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Sampled, with windows, stop strings, and responses that leave early."""
    model = causal_model(family, len(tokenizer))
    prefer(model, EOS, 2.0)
    monkeypatch.setattr(module, "FIRST_WIDTH", TOKENS_BETWEEN_LOOKS)
    how = {"n": 4, "max_new_tokens": 3 * TOKENS_BETWEEN_LOOKS - 3, "stop": ["a"]}
    found = sampled(REPLAYED, model, tokenizer, monkeypatch, **how)
    expected = sampled(FASTEST, model, tokenizer, monkeypatch, **how)
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.mask, expected.mask)
    assert torch.equal(found.finished, expected.finished)
    assert found.texts == expected.texts
    lengths = found.mask.sum(-1)
    assert lengths.min() < TOKENS_BETWEEN_LOOKS < lengths.max()
    assert recorded.made > 1
    assert not caplog.records


def test_python_is_asked_once_for_each_width(
    causal_model: Callable[..., Any], tokenizer: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = causal_model("llama", len(tokenizer))
    prefer(model, EOS, -100.0)
    monkeypatch.setattr(module, "FIRST_WIDTH", 2 * TOKENS_BETWEEN_LOOKS)
    calls: list[int] = []
    model.lm_head.register_forward_pre_hook(lambda _, args: calls.append(args[0].shape[1]))
    sampled(REPLAYED, model, tokenizer, monkeypatch, n=2, max_new_tokens=6 * TOKENS_BETWEEN_LOOKS)
    assert recorded.made == 3  # 32, 64 and 96 columns
    assert calls == [1] * (2 * recorded.made)


def test_a_forward_that_cannot_be_captured_runs_as_it_is_with_one_line(
    causal_model: Callable[..., Any],
    tokenizer: Any,
    recorded: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = causal_model("llama", len(tokenizer))
    expected = sampled(FASTEST, model, tokenizer, monkeypatch, n=2, max_new_tokens=20)
    looks = model.lm_head.register_forward_hook(lambda _, args, output: output * float(output.isfinite().all()))
    for _ in range(2):
        found = sampled(REPLAYED, model, tokenizer, monkeypatch, n=2, max_new_tokens=20)
        assert torch.equal(found.tokens, expected.tokens)
    looks.remove()
    (record,) = caplog.records
    assert record.message == (
        "Sampling waits for Python at every token, which is slower than a replay:"
        " RuntimeError: operation not permitted when stream is capturing."
    )
    assert recorded.made == 1


class Graph:
    """A twin of torch's that holds no kernels: what was there when it was captured stays."""

    def replay(self) -> None:
        """Nothing."""


@pytest.fixture
def without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``Captured`` asks of ``torch.cuda``, as little as a machine without a card can do of it."""
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(module, "_aside", lambda device: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream, capture_error_mode: nullcontext())


@pytest.mark.usefixtures("without_a_card")
def test_a_replay_is_held_against_the_forward_that_was_captured() -> None:
    logits = torch.tensor([[1.0, -4.0], [2.0, 0.0]])
    assert torch.equal(module.Captured(lambda: logits, torch.device("cpu")).replay(), logits)
    off = iter([logits, logits + 0.05 * 4.0])
    with pytest.raises(RuntimeError, match=r"a replay's logits differ by 5\.0% of the largest"):
        module.Captured(lambda: next(off), torch.device("cpu"))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma"])
def test_a_trial_replays_in_float32_whatever_the_weights_are(
    name: str, causal_model: Callable[..., Any], tokenizer: Any, recorded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert way_of(causal_model(name, len(tokenizer), dtype)) is REPLAYED
    assert recorded.made == 4  # two starts each
    assert not caplog.records


class Stale(Recorded):
    """Replays what was there when it was made, as a graph without the kernels of another card would."""

    def replay(self) -> Tensor:
        """Nothing."""
        return self.result


def test_a_replay_that_goes_stale_is_found_out_with_one_line(
    causal_model: Callable[..., Any],
    tokenizer: Any,
    recorded: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "Captured", Stale)
    assert way_of(causal_model("llama", len(tokenizer))) is FASTEST
    (record,) = caplog.records
    assert record.message.startswith("Sampling waits for Python at every token, which is slower than a replay: logits")
