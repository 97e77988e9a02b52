"""What judges say, against one forward for every question, unpadded, and sums written out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Weights
from laser_pl.rewards import PairwiseJudge, PointwiseJudge
from laser_pl.rewards.pairwise_judge import schedule

CPU = torch.device("cpu")
CHATML = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def ready(judge: Any) -> Any:
    judge.check()
    judge.load(CPU)
    return judge


@torch.no_grad()
def slow_probabilities(folder: Path, tokenizer: Any, text: str, answers: str) -> list[float]:
    """Of each answer among the answers, behind a text."""
    ids = tokenizer.convert_tokens_to_ids([*text])
    logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0, -1].double()
    each = [math.exp(float(logits[tokenizer.convert_tokens_to_ids(answer)])) for answer in answers]
    return [value / sum(each) for value in each]


def test_a_rating_is_the_expected_one(
    questions: list[Prompt], responses: list[list[str]], policy_folder: Path, tokenizer: Any
) -> None:
    worth = {"a": -1.0, "b": 0.5, "z": 3.0}
    judge = ready(PointwiseJudge(Weights(str(policy_folder)), "{{ prompt }}/{{ response }}?", worth))
    expected = []
    for prompt, row in zip(questions, responses, strict=True):
        content = prompt.prompt if isinstance(prompt.prompt, str) else "1+1?\n\n2\n\n2+2?"
        for response in row:
            each = slow_probabilities(policy_folder, tokenizer, f"{content}/{response}?", "abz")
            expected.append(sum(p * w for p, w in zip(each, worth.values(), strict=True)))
    assert judge.score(questions, responses).flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("opponents", [None, 1, 2, 5])
def test_a_comparison_is_made_in_both_orders(
    questions: list[Prompt], policy_folder: Path, tokenizer: Any, opponents: int | None
) -> None:
    responses = ["2", "", "two", "4?"]
    template = "{{ prompt }}:{{ response_a }};{{ response_b }}="
    judge = ready(PairwiseJudge(Weights(str(policy_folder)), template, ("a", "b"), opponents))
    won: list[list[float]] = [[] for _ in responses]
    rounds = 3 if opponents is None else min(opponents, 3)
    met = {frozenset((i, (i + k) % 4)) for i in range(4) for k in range(1, rounds + 1)}
    for one, other in itertools.combinations(range(4), 2):
        if frozenset((one, other)) in met:
            first, second = ((responses[i], responses[j]) for i, j in ((one, other), (other, one)))
            ahead = slow_probabilities(policy_folder, tokenizer, "1+1=:{};{}=".format(*first), "ab")[0]
            behind = slow_probabilities(policy_folder, tokenizer, "1+1=:{};{}=".format(*second), "ab")[1]
            won[one].append((ahead + behind) / 2)
            won[other].append(1 - (ahead + behind) / 2)
    expected = [math.fsum(points) / len(points) for points in won]
    assert judge.score(questions[:1], [responses])[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_preference_for_a_place_cancels(questions: list[Prompt], policy_folder: Path) -> None:
    """A judge that is not shown the responses says A or B by their place alone."""
    judge = ready(PairwiseJudge(Weights(str(policy_folder)), "{{ prompt }}", ("a", "b"), opponents=None))
    scores = judge.score(questions[:1], [["one", "two", "three"]])[0].tolist()
    assert scores == pytest.approx([0.5] * 3, abs=1e-6)


def test_an_only_response_has_nobody_to_be_compared_with(questions: list[Prompt], policy_folder: Path) -> None:
    judge = ready(PairwiseJudge(Weights(str(policy_folder))))
    assert judge.score(questions[:2], [["one"], ["two"]]).isnan().all()


@given(n=st.integers(1, 12), opponents=st.one_of(st.none(), st.integers(1, 14)))
def test_everybody_meets_as_many_as_said(n: int, opponents: int | None) -> None:
    games = schedule(n, opponents)
    assert len(set(games)) == len(games)
    assert all(0 <= one < other < n for one, other in games)
    least = min(n - 1, n - 1 if opponents is None else opponents)
    assert all(sum(player in game for game in games) >= least for player in range(n))
    assert len(games) <= n * least


def test_a_chat_model_is_asked_in_its_own_template(
    questions: list[Prompt], policy_folder: Path, tokenizer: Any, tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_pretrained(policy_folder).save_pretrained(tmp_path)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    worth = {"a": 0.0, "b": 1.0}
    judge = ready(PointwiseJudge(Weights(str(tmp_path)), "{{ prompt }}{{ response }}", worth))
    each = slow_probabilities(tmp_path, tokenizer, "[user]1+1=2|[assistant]", "ab")
    assert float(judge.score(questions[:1], [["2"]])) == pytest.approx(each[1], abs=1e-5)
    judge.chat_template = False
    each = slow_probabilities(tmp_path, tokenizer, "1+1=2", "ab")
    assert float(judge.score(questions[:1], [["2"]])) == pytest.approx(each[1], abs=1e-5)


def test_a_template_sees_columns_and_answer(policy_folder: Path, tokenizer: Any) -> None:
    template = "{{ unit }}{% for m in messages %}{{ m.role[0] }}{% endfor %}{{ answer }}{{ response }}"
    judge = ready(PointwiseJudge(Weights(str(policy_folder)), template, {"a": 0.0, "b": 1.0}))
    prompt = Prompt("p", "?", "unused", answer="7", columns={"unit": "km", "answer": "another"})
    each = slow_probabilities(policy_folder, tokenizer, "kmu7x", "ab")
    assert float(judge.score([prompt], [["x"]])) == pytest.approx(each[1], abs=1e-5)


@pytest.mark.parametrize("kind", [PointwiseJudge, PairwiseJudge])
def test_a_template_runs_in_the_sandbox(questions: list[Prompt], policy_folder: Path, kind: Any) -> None:
    judge = ready(kind(Weights(str(policy_folder)), "{{ ''.__class__.__mro__[1].__subclasses__() }}"))
    with pytest.raises(ConfigurationError, match=f"The template of {kind.__name__} cannot be filled"):
        judge.score(questions[:1], [["a", "b"]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: PointwiseJudge(w, "{{ prompt "), "The template of PointwiseJudge is no Jinja template"),
        (lambda w: PointwiseJudge(w, ratings={"1": 1.0}), r"needs two answers or more, got \['1'\]"),
        (lambda w: PairwiseJudge(w, answers=("A", "A")), r"needs two answers or more, got \['A'\]"),
        (lambda w: PairwiseJudge(w, opponents=0), "opponents must be >= 1, got 0"),
        (
            lambda w: ready(PointwiseJudge(w, ratings={"10": 10.0, "1": 1.0})),
            r"answer '10' .* one token .* \['1', '0'\]",
        ),
        (lambda w: ready(PairwiseJudge(w, answers=("A", "é"))), r"answer 'é' .* one token .* \['<unk>'\]"),
        (lambda w: ready(PairwiseJudge(w, answers=("A", ""))), r"answer '' .* one token .* \[\]"),
    ],
)
def test_mistakes_are_named(policy_folder: Path, make: Callable[[Weights], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(Weights(str(policy_folder)))


@pytest.mark.parametrize("kind", ["llama", "longrope", "rwkv"])
def test_a_text_is_rated_as_alone_whatever_is_read_beside_it(tokenizer: Any, tmp_path: Path, kind: str) -> None:
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": len(tokenizer), "pad_token_id": 0,
                             "eos_token_id": 1, "bos_token_id": None, "initializer_range": 0.2}  # fmt: skip
    if kind != "rwkv":
        shape |= {"intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
    if kind == "longrope":
        factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
        rope = {"rope_type": "longrope", "rope_theta": 100.0, "original_max_position_embeddings": 16, **factors}
        shape |= {"rope_parameters": rope, "max_position_embeddings": 512}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model("phi3" if kind == "longrope" else kind, **shape)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    judge = ready(PointwiseJudge(Weights(str(tmp_path)), "{{ prompt }}{{ response }}", {"a": 1.0, "b": 4.0}))
    prompt, texts = Prompt("0", "1+1=", ""), ["2", "a response of many more words, and more", "two"]
    together = judge.score([prompt], [texts])[0].tolist()
    for text, score in zip(texts, together, strict=True):
        each = slow_probabilities(tmp_path, tokenizer, f"1+1={text}", "ab")
        assert score == pytest.approx(each[0] + 4 * each[1], abs=1e-4)


def test_answers_are_the_tokens_that_stand_behind_the_template(tmp_path: Path, policy_folder: Path) -> None:
    """A tokenizer of the Llama-2 kind reads an answer alone with a space before it, and none behind a line break."""
    pieces = ["<unk>", "<s>", "</s>", "<0x0A>", *"\u2581AB12?|<>:userassistant", "\u2581A", "\u2581B"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(
        models.BPE(vocabulary, [("\u2581", "A"), ("\u2581", "B")], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    AutoModelForCausalLM.from_pretrained(policy_folder).save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    assert fast.tokenize("A") == ["\u2581A"]
    weights = Weights(str(tmp_path))
    for judge, expected in ((PairwiseJudge(weights), ["A", "B"]),
                            (PointwiseJudge(weights, ratings={"1": 1, "2": 2}), ["1", "2"])):  # fmt: skip
        judge.load_tokenizer()
        assert fast.convert_ids_to_tokens(judge._answer_ids) == expected
    with pytest.raises(ConfigurationError, match=r"The answer '12' of PointwiseJudge must be one token of"):
        PointwiseJudge(Weights(str(tmp_path)), ratings={"12": 1, "2": 2}).load_tokenizer()
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "yes": 1, "no": 2}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>").save_pretrained(tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"Two answers of PointwiseJudge are the same token .*, among Yes, yes\."
    ):
        PointwiseJudge(Weights(str(tmp_path)), ratings={"Yes": 1, "yes": 2}, chat_template=False).load_tokenizer()
