"""A response ends where a stop string first appears, whatever its neighbours and however its prompt is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.data.prompts import encode
from laser_pl.errors import ConfigurationError
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.stop_strings import TOKENS_BETWEEN_LOOKS, stopped
from laser_pl.generation.text import text_of
from laser_pl.generation.way import AFRESH, FASTEST, SLOWER, Way
from tests.runs import Fit

LONG, SEED = 3 * TOKENS_BETWEEN_LOOKS + 2, 5
TEXTS = ["abc", "x", "a longer prompt than any window", "(1+2)*3="]


def byte_pairs() -> PreTrainedTokenizerFast:
    """Tokens of several characters, and characters of several tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(["Question: why? stop stopper Question:\n\n Question"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")


def metaspaces() -> PreTrainedTokenizerFast:
    """Llama 2's way: a space in front of each word, which the first one loses when it is decoded."""
    words = ["▁", "▁Q", "▁stop", "per", "Question", ":", "▁:", "▁▁", "s", "t", "o", "p"]
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate(["<unk>", *words])}, "<unk>"))
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


TOKENIZERS = {"byte pairs": byte_pairs(), "metaspaces": metaspaces()}
STOPS = ["stop", ":", "Question:", "\n\nQuestion", " :", "é", "o p"]


def first_by_steps(tokenizer: Any, ids: list[int], ends: list[int], stops: list[str]) -> tuple[int, str] | None:
    """Token after token, the whole text each time."""
    for tokens in range(1, len(ids) + 1):
        text = text_of(tokenizer, ids[:tokens], ends)
        places = [text.find(stop) for stop in stops]
        if max(places) >= 0:
            return tokens, text[: min(place for place in places if place >= 0)]
    return None


@pytest.mark.parametrize("name", TOKENIZERS)
@given(st.data())
def test_the_token_that_completes_a_stop_string_is_the_last(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    stops = data.draw(st.lists(st.sampled_from(STOPS), min_size=1, max_size=3))
    pieces = data.draw(
        st.lists(st.sampled_from(["stop", "stopper", "Question", ":", "\n\n", " ", "é", "<eos>", "o p"]))
    )
    ids = tokenizer("".join(pieces), add_special_tokens=False)["input_ids"]
    ends = [tokenizer.eos_token_id]
    assert stopped(tokenizer, ids, ends, stops) == first_by_steps(tokenizer, ids, ends, stops)


def test_by_hand() -> None:
    tokenizer = TOKENIZERS["byte pairs"]
    (stopper,) = tokenizer(" stopper")["input_ids"]  # one token, which says more than the stop string
    ids = [*tokenizer("why?")["input_ids"], stopper, stopper]
    assert stopped(tokenizer, ids, [], ["stop"]) == (len(ids) - 1, "why? ")
    assert stopped(tokenizer, ids, [], ["y?", "hy? st"]) == (len(ids) - 2, "wh")
    assert stopped(tokenizer, ids, [], ["Question:"]) is None


def prompts_of(texts: list[str], tokenizer: Any) -> PromptBatch:
    return encode([Prompt(text, text, text) for text in texts], tokenizer, limit=100)


def two_in(texts: list[str]) -> list[str]:
    """Two stop strings that are in the longest of these texts, one early and one late."""
    longest = max(texts, key=len)
    return [longest[3:5], longest[TOKENS_BETWEEN_LOOKS + 2 : TOKENS_BETWEEN_LOOKS + 5]]


@pytest.mark.parametrize("way", [FASTEST, SLOWER, AFRESH], ids=["shared", "repeated", "read afresh"])
def test_responses_are_those_without_stop_strings_cut(
    family: str, causal_model: Callable[..., Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    monkeypatch.setattr("laser_pl.generation.sampler.way_of", lambda _: way)
    model, prompts = causal_model(family, len(tokenizer)), prompts_of(TEXTS, tokenizer)
    whole = sample_responses(model, tokenizer, prompts, Sampling(n=3, max_new_tokens=LONG), SEED)
    stops = two_in([text for row in whole.texts for text in row])
    found = sample_responses(model, tokenizer, prompts, Sampling(n=3, max_new_tokens=LONG, stop=stops), SEED)
    cut = 0
    for row in range(len(TEXTS)):
        for i in range(3):
            ids = whole.tokens[row, i][whole.mask[row, i].bool()].tolist()
            own = found.tokens[row, i][found.mask[row, i].bool()].tolist()
            expected = first_by_steps(tokenizer, ids, [1], stops)
            if expected is None:
                assert (own, found.texts[row][i]) == (ids, whole.texts[row][i])
                assert found.finished[row, i] == whole.finished[row, i]
            else:
                assert (len(own), found.texts[row][i]) == expected
                assert own == ids[: len(own)]
                assert found.finished[row, i]
                cut += len(own) < len(ids)
    assert cut > 0
    assert not any(stop in text for stop in stops for row in found.texts for text in row)
    assert (found.tokens[~found.mask.bool()] == 0).all()


@pytest.mark.parametrize("way", [FASTEST, SLOWER, AFRESH], ids=["shared", "repeated", "read afresh"])
def test_what_has_stopped_costs_no_more_forwards(
    causal_model: Callable[..., Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    monkeypatch.setattr("laser_pl.generation.sampler.way_of", lambda _: way)
    model = causal_model("llama", len(tokenizer))
    forwards: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda *_: forwards.append(1))
    prompts = prompts_of(["x"], tokenizer)
    whole = sample_responses(model, tokenizer, prompts, Sampling(n=1, max_new_tokens=LONG), SEED)
    assert len(forwards) >= LONG
    forwards.clear()
    stop = [whole.texts[0][0][2:4]]
    sample_responses(model, tokenizer, prompts, Sampling(n=1, max_new_tokens=LONG, stop=stop), SEED)
    assert len(forwards) <= TOKENS_BETWEEN_LOOKS + 2


def test_a_run_stores_judges_and_grades_what_stands_before_the_stop_string(fit: Fit, tmp_path: Path) -> None:
    stop = json.dumps(["a", "7"])
    run = fit(tmp_path, f"--data.rollouts.stop={stop}", f"--model.evaluation.stop={stop}",
              "--data.prompts_per_iteration=4")  # fmt: skip
    rows = [
        row
        for path in sorted((run.folder.path / "rollouts").rglob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    texts = [text for row in rows for text in row["responses"]]
    assert texts
    assert not any("a" in text or "7" in text for text in texts)
    ids = [ids for row in rows for ids in row["tokens"]]
    ends = [run.model.tokenizer.convert_tokens_to_ids(token) for token in ("a", "7")]
    assert any(own[-1] in ends for own in ids)  # sampled, and so trained
    for line in map(json.loads, run.folder.judged.read_text().splitlines()):
        assert line["right"] == [text == line["answer"] for text in line["responses"]]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="stop holds an empty text"):
        Sampling(stop=["\n", ""])
