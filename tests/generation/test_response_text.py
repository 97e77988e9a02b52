"""What a response's tokens say: the text that is judged, graded and exported is the text that was sampled."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from laser_pl.batches import Prompt
from laser_pl.data.prompts import encode
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.text import text_of, unknown_ids

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]
SPECIAL = 3  # <pad>, <eos> and <unk> are the first ids
EMPTY = 7  # ids behind the tokenizer's that a padded vocabulary has


def drawn(model: Any, tokenizer: Any, sampling: Sampling) -> set[int]:
    prompts = encode([Prompt(text, text, text) for text in ("abc", "x = 1, so")], tokenizer, limit=50)
    responses = sample_responses(model, tokenizer, prompts, sampling, seed=0)
    return set(responses.tokens[responses.mask.bool()].tolist())


def test_spaces_before_punctuation_are_kept_where_a_tokenizer_would_clean_up(tokenizer: Any) -> None:
    tokenizer.clean_up_tokenization_spaces = True  # as Llama 3's configuration has it
    said = "x = a . b , c ! do n't , I 'm"
    ids = tokenizer(said)["input_ids"]
    assert tokenizer.decode(ids) != said
    assert text_of(tokenizer, ids) == said


def test_every_sampled_text_is_its_characters(causal_model: Callable[..., Any], tokenizer: Any) -> None:
    tokenizer.clean_up_tokenization_spaces = True
    model = causal_model("llama", len(tokenizer))
    liked = torch.tensor(tokenizer(" .,!?'ntsm")["input_ids"])
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(0.2)  # nearly uniform, but for what is liked
    model.get_output_embeddings().register_forward_hook(lambda m, i, logits: logits.index_add_(
        -1, liked, logits.new_full((*logits.shape[:-1], len(liked)), 6.0)))  # fmt: skip
    prompts = encode([Prompt("p", "p", "abc")], tokenizer, limit=50)
    responses = sample_responses(model, tokenizer, prompts, Sampling(n=16, max_new_tokens=40), seed=0)
    characters = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    for ids, mask, text in zip(responses.tokens[0], responses.mask[0], responses.texts[0], strict=True):
        assert text == "".join(characters[id_] for id_ in ids[mask.bool()].tolist() if id_ >= SPECIAL)
    cleaned = [re.sub(r" (?=[.,!?]|n't|'m|'s)", "", text) for text in responses.texts[0]]  # as a clean-up would
    assert cleaned != responses.texts[0]  # there was something to lose


def test_a_special_token_in_the_middle_is_no_text_and_an_unknown_character_neither(tokenizer: Any) -> None:
    ids = [*tokenizer("a")["input_ids"], 2, 0, *tokenizer(" b")["input_ids"], 1]
    assert text_of(tokenizer, ids) == "a b"


def test_an_end_that_the_tokenizer_does_not_call_special_is_no_text(tokenizer: Any) -> None:
    ids = tokenizer("yes#")["input_ids"]
    assert text_of(tokenizer, ids, ends=[1, ids[-1]]) == "yes"
    assert text_of(tokenizer, ids, ends=[1]) == "yes#"
    assert text_of(tokenizer, [], ends=[1]) == ""


def test_padding_with_an_ordinary_character_adds_none(causal_model: Callable[..., Any], tokenizer: Any) -> None:
    tokenizer.pad_token = "#"
    model = causal_model("llama", len(tokenizer))
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(0.3)  # so that responses end at different places
    prompts = encode([Prompt("p", "p", "abc")], tokenizer, limit=50)
    responses = sample_responses(model, tokenizer, prompts, Sampling(n=16, max_new_tokens=60), seed=0)
    assert len(set(responses.mask.sum(-1).flatten().tolist())) > 1
    assert not any("#" in text for text in responses.texts[0])


@pytest.mark.parametrize("temperature", [0.0, 5.0])
@pytest.mark.parametrize("family", ["llama", "gpt2"])  # from a shared cache, and by plain generation
def test_an_id_that_is_no_token_is_never_drawn(
    causal_model: Callable[..., Any], tokenizer: Any, family: str, temperature: float
) -> None:
    model = causal_model(family, len(tokenizer) + EMPTY)
    hole = next(id_ for id_ in range(SPECIAL, len(tokenizer)))
    del_vocab = {token: id_ for token, id_ in tokenizer.get_vocab().items() if id_ != hole}
    tokenizer.get_vocab = lambda: del_vocab
    sampling = Sampling(n=1 if temperature == 0 else 8, temperature=temperature, max_new_tokens=12)

    def likes_them(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        logits[..., hole] += 20
        logits[..., len(tokenizer) :] += 20
        return logits

    model.get_output_embeddings().register_forward_hook(likes_them)
    found = drawn(model, tokenizer, sampling)
    assert found
    assert found <= set(del_vocab.values()) - {tokenizer.pad_token_id}


def test_an_end_that_only_the_generation_config_knows_can_be_drawn(
    causal_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = causal_model("llama", len(tokenizer) + EMPTY)
    end = len(tokenizer) + 2
    model.generation_config.eos_token_id = [1, end]
    model.get_output_embeddings().register_forward_hook(
        lambda m, i, logits: logits.index_fill_(-1, torch.tensor([end]), 50.0)
    )
    assert drawn(model, tokenizer, Sampling(n=2, max_new_tokens=8)) == {end}


def test_the_ids_a_vocabulary_pads_itself_with(tokenizer_with: MakeTokenizer) -> None:
    tokenizer = tokenizer_with(bos_token="<bos>")
    assert unknown_ids(tokenizer, len(tokenizer)) == []
    tokenizer.add_tokens(["<tool>"])
    assert unknown_ids(tokenizer, len(tokenizer) + 3) == list(range(len(tokenizer), len(tokenizer) + 3))
