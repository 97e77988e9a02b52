"""What all prompts begin with is read once, and nothing comes out otherwise for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, MistralConfig

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.data.prompts import encode
from laser_pl.generation.prompt_reading import may_share_prefix, side_by_side
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.logprobs.padding import pad_left
from laser_pl.logprobs.shared_prefix import SHARED_PREFIX_FROM, shared_prefix

START = "(1+2)*3=9 (2+2)*2=8 "
ENDS = ["abc", "xy", "a longer question than others", "(1+2)*3="]
SAMPLING = Sampling(n=3, temperature=0.8, max_new_tokens=20)
SEED = 11

tokens = st.integers(1, 3)
rows = st.lists(st.lists(tokens, min_size=2, max_size=40), min_size=1, max_size=5)


def batch_of(ids: list[list[int]]) -> PromptBatch:
    return PromptBatch(tuple(Prompt(str(i), "", "") for i in range(len(ids))), *pad_left(ids, 0, "cpu"))


def prompts_of(texts: list[str], tokenizer: Any) -> PromptBatch:
    return encode([Prompt(text, text, text) for text in texts], tokenizer, limit=200)


@given(st.lists(tokens, max_size=40), rows)
def test_the_common_start_is_what_all_begin_with(start: list[int], rest: list[list[int]]) -> None:
    ids = [start + row for row in rest]
    same = 0
    while all(len(row) > same + 2 and row[same] == ids[0][same] for row in ids):
        same += 1
    expected = same if same >= SHARED_PREFIX_FROM and len(ids) > 1 else 0
    batch = batch_of(ids)
    assert shared_prefix(batch.tokens, batch.mask) == expected


@given(st.lists(tokens, max_size=40), rows)
def test_side_by_side_the_prompts_are_the_same_and_begin_alike(start: list[int], rest: list[list[int]]) -> None:
    ids = [start + row for row in rest]
    found = side_by_side(batch_of(ids), len(start))
    assert [row[keep == 1].tolist() for row, keep in zip(found.tokens, found.mask, strict=True)] == ids
    assert found.tokens[:, : len(start)].tolist() == [start] * len(ids)
    assert found.mask[:, : len(start)].all()
    assert found.mask[:, -1].all()


def test_every_family_samples_the_same_as_prompt_by_prompt(
    family: str, causal_model: Callable[..., Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = causal_model(family, len(tokenizer))
    prompts = prompts_of([START + end for end in ENDS], tokenizer)
    assert shared_prefix(prompts.tokens, prompts.mask) == len(START)
    found = sample_responses(model, tokenizer, prompts, SAMPLING, SEED)
    monkeypatch.setattr("laser_pl.logprobs.shared_prefix.SHARED_PREFIX_FROM", 10**6)
    expected = sample_responses(model, tokenizer, prompts, SAMPLING, SEED)
    assert found.texts == expected.texts


@pytest.mark.parametrize(("window", "shares"), [(4096, True), (60, True), (8, False)])
def test_a_window_that_spans_the_prompts_does_not_mind(
    llama_config: Callable[..., Any], tokenizer: Any, window: int, shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While responses are written it may move past the start."""
    like_llama = {name: value for name, value in llama_config(len(tokenizer)).to_dict().items() if name != "model_type"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(MistralConfig(**like_llama, sliding_window=window)).eval()
    prompts = prompts_of([START + end for end in ENDS], tokenizer)
    assert may_share_prefix(model, prompts.tokens.shape[1]) is shares
    found = sample_responses(model, tokenizer, prompts, SAMPLING, SEED)
    monkeypatch.setattr("laser_pl.logprobs.shared_prefix.SHARED_PREFIX_FROM", 10**6)
    expected = sample_responses(model, tokenizer, prompts, SAMPLING, SEED)
    assert found.texts == expected.texts


def test_only_what_differs_is_read_of_each_prompt(causal_model: Callable[..., Any], tokenizer: Any) -> None:
    model = causal_model("llama", len(tokenizer))
    sample_responses(
        model, tokenizer, prompts_of(["x"], tokenizer), Sampling(n=1, max_new_tokens=1), SEED
    )  # tries its attention
    shapes = []
    model.get_decoder().register_forward_pre_hook(
        lambda _, __, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    prompts = prompts_of([START + end for end in ENDS], tokenizer)
    sample_responses(model, tokenizer, prompts, SAMPLING, SEED)
    width = prompts.tokens.shape[1]
    assert shapes[:2] == [(1, len(START)), (len(ENDS), width - len(START) - 1)]


def test_equal_prompts_keep_something_to_read(causal_model: Callable[..., Any], tokenizer: Any) -> None:
    model, greedy = causal_model("llama", len(tokenizer)), Sampling(n=1, temperature=0, max_new_tokens=20)
    prompts = prompts_of([START, START], tokenizer)
    assert shared_prefix(prompts.tokens, prompts.mask) == len(START) - 2
    together, alone = (sample_responses(model, tokenizer, some, greedy, SEED) for some in (prompts, prompts.part([0])))
    assert list(together.texts) == [alone.texts[0]] * 2
