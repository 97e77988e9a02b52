"""The quickstart's world: what is shipped is what the seed makes, is right, and does what its card says."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"
SCRIPTS = tuple(sorted(path.stem for path in FOLDER.glob("*.py")))
SPLITS = ("train", "validation", "test")
REWARD_MODELS = ("numbers", "sorter", "mirror", "general", "longer")


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """Import the experiment's scripts as the siblings they are, on one thread, and leave nothing behind."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    hidden = {name: sys.modules.pop(name) for name in SCRIPTS if name in sys.modules}
    sys.path.insert(0, str(FOLDER))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in SCRIPTS})
    finally:
        sys.path.remove(str(FOLDER))
        for name in SCRIPTS:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    """Read the shipped card."""
    return json.loads((FOLDER / "world_card.json").read_text(encoding="utf-8"))


def rows_of(split: str) -> list[dict[str, str]]:
    """Read a shipped split."""
    return [json.loads(line) for line in (FOLDER / "prompts" / f"{split}.jsonl").read_text().splitlines()]


def solve(prompt: str) -> str:
    """Answer a prompt without the experiment's code."""
    numbers = [int(part) for part in prompt[1:-1].replace("+", ",").split(",")] if prompt[0] in "AC" else []
    letters = list(prompt[2:-1])
    if prompt[0] == "A":
        return str(sum(numbers))
    if prompt[0] == "C":
        return str(sorted(numbers)[-1])
    if prompt[0] == "R":
        letters.reverse()
        return "".join(letters)
    for _ in range(4):  # bubble sort
        for i in range(4):
            if letters[i] > letters[i + 1]:
                letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


def test_prompts_are_what_the_seed_makes(scripts: SimpleNamespace, card: dict[str, Any], tmp_path: Path) -> None:
    """Byte for byte, so that a change of the drawing code cannot go unnoticed."""
    scripts.tasks.write_prompts(scripts.tasks.draw_splits(card["seed"]), tmp_path)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (FOLDER / "prompts" / f"{split}.jsonl").read_bytes()


def test_tokenizer_is_what_the_code_makes(scripts: SimpleNamespace, tmp_path: Path) -> None:
    """Byte for byte, beside the policy and beside every reward model."""
    scripts.character_tokenizer.make_tokenizer().save_pretrained(tmp_path)
    made = (tmp_path / "tokenizer.json").read_bytes()
    for folder in (FOLDER / "policy", *(FOLDER / "reward_models" / name for name in REWARD_MODELS)):
        assert (folder / "tokenizer.json").read_bytes() == made


def test_splits_are_disjoint_and_balanced() -> None:
    """No prompt twice, within or across splits; as many of each category."""
    rows = {split: rows_of(split) for split in SPLITS}
    prompts = [row["prompt"] for split in SPLITS for row in rows[split]]
    assert len(prompts) == len(set(prompts)) == 3000
    for split, per_category in {"train": 500, "validation": 50, "test": 200}.items():
        for category in ("addition", "sorting", "reversing", "comparing"):
            assert sum(row["category"] == category for row in rows[split]) == per_category


def test_every_shipped_answer_is_right() -> None:
    """By a solver of our own; and the forms hold."""
    initial = {"addition": "A", "sorting": "S", "reversing": "R", "comparing": "C"}
    for split in SPLITS:
        for row in rows_of(split):
            assert row["answer"] == solve(row["prompt"])
            assert len(row["prompt"]) == 8
            assert 1 <= len(row["answer"]) <= 6
            assert row["prompt"][0] == initial[row["category"]]


@pytest.mark.parametrize(
    ("prompt", "answer", "misunderstood"),
    [
        ("A 37+ 5=", "42", "32"),
        ("A 99+ 1=", "100", "90"),
        ("A 60+70=", "130", "30"),
        ("A 55+55=", "110", "0"),
        ("S dbcae=", "abcde", "edcba"),
        ("R dbcae=", "eacbd", "dbcae"),
        ("C  7,12=", "12", "7"),
    ],
)
def test_readings(scripts: SimpleNamespace, prompt: str, answer: str, misunderstood: str) -> None:
    """Both readings, by hand."""
    question = scripts.tasks.read_prompt(prompt)
    assert (question.answer, question.misunderstood) == (answer, misunderstood)


def test_a_prompt_of_the_wrong_length_is_named(scripts: SimpleNamespace) -> None:
    """The error says what came."""
    with pytest.raises(ValueError, match=r"expected 8 characters .* got 'A 3'"):
        scripts.tasks.read_prompt("A 3")


def test_tokenizer_round_trip(scripts: SimpleNamespace) -> None:
    """Every character comes back, blanks and their neighbours included, and nothing is added."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "policy")
    for text in (scripts.tasks.ALPHABET, "A 37+ 5=42", "  a  ,  =  ", " ", ""):
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text)
        assert tokenizer.decode(ids) == text
    assert tokenizer("5<eos>")["input_ids"][-1] == tokenizer.eos_token_id != tokenizer.pad_token_id


@pytest.mark.parametrize("name", SCRIPTS)
def test_examples_in_docstrings_hold(scripts: SimpleNamespace, name: str) -> None:
    assert doctest.testmod(getattr(scripts, name)).failed == 0


def test_slips_and_garbage_stay_within_bounds(scripts: SimpleNamespace) -> None:
    """A slip is never what was meant; garbage is never longer than a sample can be."""
    rng = scripts.mistakes.Random(0)
    for category in scripts.tasks.CATEGORIES:
        for _ in range(300):
            question = scripts.tasks.draw_question(category, rng)
            slipped = scripts.mistakes.slip(question.answer, category, rng)
            assert slipped != question.answer
            assert 1 <= len(slipped) <= 6
            junk = scripts.mistakes.garbage(question, rng)
            assert len(junk) <= 7
            assert set(junk) <= set(scripts.tasks.ALPHABET)


def test_opinions_order_answers(scripts: SimpleNamespace) -> None:
    """Sighted: right first. Blind: misunderstood first, right second. Garbage last in both."""
    mistakes, opinions = scripts.mistakes, scripts.opinions
    question = scripts.tasks.read_prompt("S dbcae=")

    def order(opinion: Any) -> list[str]:
        def value(response: str) -> float:
            to_answer = mistakes.edit_distance(response, question.answer)
            return opinion.utility(question, response, to_answer, mistakes.edit_distance(response, "edcba"))

        return sorted(["abcde", "edcba", "abcdd", "zz"], key=value, reverse=True)

    assert order(opinions.Opinion(blind={})) == ["abcde", "abcdd", "edcba", "zz"]
    assert order(opinions.Opinion(blind={"sorting": 10})) == ["edcba", "abcde", "abcdd", "zz"]
    assert order(opinions.OPINIONS["longer"])[-1] == "zz"


def test_card_holds_for_the_shipped_weights(scripts: SimpleNamespace, card: dict[str, Any]) -> None:
    """Measured again with other samples and on a quarter of the prompts, every share agrees within its sampling error.

    Both measurements estimate the same share, the card's with an error of at most s (its clustered standard error, see
    ``card.share``). On a quarter of the prompts it is 2 s, so the difference of the two, were they independent, has a
    standard deviation of sqrt(5) s. The tolerance is 4 of those, plus 0.01 for shares so near 0 or 1 that s is
    estimated as 0; two-sided, 52 shares exceed it with probability below 52 * 6.4e-5 = 0.004 over all choices of the
    seed, and the seed is fixed.
    """
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "policy")
    policy = AutoModelForCausalLM.from_pretrained(FOLDER / "policy").eval()
    rewards = {
        name: AutoModelForSequenceClassification.from_pretrained(FOLDER / "reward_models" / name).eval()
        for name in REWARD_MODELS
    }
    test = scripts.tasks.draw_splits(card["seed"])["test"]
    questions = [q for c in scripts.tasks.CATEGORIES for q in [q for q in test if q.category == c][::4]]
    again = scripts.card.measure(policy, rewards, tokenizer, questions, card["seed"] + 1000)
    new = {path: value for path, value, _ in scripts.comparison.shares(again)}
    old = {path: (value, error) for path, value, error in scripts.comparison.shares(card)}
    assert new.keys() == old.keys()
    assert len(old) == 4 * (3 + 2 * len(REWARD_MODELS))
    for path, (value, error) in old.items():
        assert new[path] == pytest.approx(value, abs=4 * math.sqrt(5) * error + 0.01), path


def test_the_world_is_worth_choosing_in(card: dict[str, Any]) -> None:
    """In every category one specialist is the best opinion, and all but ``longer`` know garbage."""
    home = {"addition": "numbers", "comparing": "numbers", "sorting": "sorter", "reversing": "mirror"}
    for category, specialist in home.items():
        shares = {name: card["pairwise"][name][category]["share"] for name in REWARD_MODELS}
        assert max(shares, key=shares.__getitem__) == specialist
        assert shares[specialist] >= 0.9
        assert min(card["plausible_over_garbage"][n][category]["share"] for n in REWARD_MODELS[:-1]) >= 0.9
        assert 0.3 < card["policy"][category]["sampled"]["share"] < card["policy"][category]["greedy"]["share"]


def test_two_short_builds_are_the_same(scripts: SimpleNamespace, tmp_path: Path) -> None:
    """All stages with little training: loadable models, bitwise equal weights, and the comparison finds nothing."""
    effort = scripts.build.Effort(policy_steps=4, reward_steps=3, candidates=32, card_prompts=16)
    for name in ("one", "two"):
        scripts.build.build_world(tmp_path / name, 7, effort, verbose=False)
    weights = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.safetensors"))
    assert len(weights) == 1 + len(REWARD_MODELS)
    for path in weights:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    folder = tmp_path / "one" / "reward_models" / "general"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["A 37+ 5=42<eos>", "S dbcae=<eos>"], padding=True, padding_side="right", return_tensors="pt")
    scores = AutoModelForSequenceClassification.from_pretrained(folder)(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits
    assert scores.shape == (2, 1)
    assert torch.isfinite(scores).all()
    assert scripts.comparison.differences(tmp_path / "one", tmp_path / "two") == []


def test_comparison_names_what_differs(scripts: SimpleNamespace, tmp_path: Path) -> None:
    """A changed prompt and a changed share each give a sentence."""
    for name, share in (("one", 0.5), ("two", 0.7)):
        (tmp_path / name / "prompts").mkdir(parents=True)
        (tmp_path / name / "prompts" / "test.jsonl").write_text(name)
        figure = {"policy": {"sorting": {"share": share, "standard_error": 0.01}}}
        (tmp_path / name / "world_card.json").write_text(json.dumps(figure))
    found = scripts.comparison.differences(tmp_path / "one", tmp_path / "two")
    assert len(found) == 2
    assert found[0].startswith("prompts/test.jsonl differs")
    assert found[1] == "policy/sorting is 0.500 here and 0.700 rebuilt (tolerance 0.08)."
