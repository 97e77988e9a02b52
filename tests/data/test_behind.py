"""Tokens of a text behind another are those of the whole, less the first text's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.data.behind import ids_behind
from laser_pl.data.written import written_batch

CHARACTERS = [*"abcdefghijklmnopqrstuvwxyzAQ0123456789:?+.", "\n"]
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def sentencepiece_like() -> Any:
    """Puts a space before every text, as Llama 2, Mistral and Zephyr do; whole words where they follow a space."""
    tokens = [*SPECIAL.values(), "▁", *CHARACTERS, "fo", "foo", "▁foo"]
    merges = [("f", "o"), ("fo", "o"), ("▁", "foo")]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)


def byte_level() -> Any:
    """Merges a space or a line break into what follows, as GPT-2 and Qwen do; no space is put anywhere."""
    tokens = [*SPECIAL.values(), *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġ4", "Ġ42", "ĊĊ", "42"]
    merges = [("Ġ", "4"), ("Ġ4", "2"), ("Ċ", "Ċ"), ("4", "2")]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)


MAKE = {"sentencepiece": sentencepiece_like, "byte level": byte_level}


@pytest.mark.parametrize(
    ("kind", "before", "text", "tokens"),
    [
        ("sentencepiece", "Q: 40+2?\nA:\n", "42", ["4", "2"]),
        ("sentencepiece", "A:", " foo", ["▁foo"]),
        ("sentencepiece", "A: foo ", "bar", ["b", "a", "r"]),
        ("sentencepiece", "f", "oo", ["o", "o"]),  # together they would be one token, and the prompt's none
        ("sentencepiece", "", "foo", ["▁foo"]),
        ("byte level", "A:", " 42", ["Ġ42"]),
        ("byte level", "A:\n", "\n42", ["Ċ", "42"]),
        ("byte level", "A: ", "42", ["42"]),
        ("byte level", "A:", "", []),
    ],
)
def test_goes_on_from_the_tokens_before(kind: str, before: str, text: str, tokens: list[str]) -> None:
    tokenizer = MAKE[kind]()
    ids = ids_behind(text, before, tokenizer)
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert tokenizer.decode([*tokenizer(before)["input_ids"], *ids]) == before + text


@pytest.mark.parametrize("kind", MAKE)
def test_a_written_response_is_what_was_written(kind: str) -> None:
    """Where the prompt ends with a line break, a response that is tokenised alone would begin with a space."""
    tokenizer = MAKE[kind]()
    prompt = Prompt("0", "A:\n", "A:\n", response="foo 42")
    ones = torch.ones(1, 1, dtype=torch.long)
    batch = written_batch(PromptBatch((prompt,), ones, ones), tokenizer, 20, 0, [tokenizer.eos_token_id])
    ids = batch.responses.tokens[0, 0].tolist()
    assert ids[-1] == tokenizer.eos_token_id
    assert [*tokenizer("A:\n")["input_ids"], *ids[:-1]] == tokenizer("A:\nfoo 42")["input_ids"]
