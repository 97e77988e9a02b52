"""The second world: what is shipped is what the seed makes, is right, and does what its card says."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from laser_pl.batches import Prompt
from laser_pl.models.language_model import Weights
from laser_pl.rewards import Likelihood

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "second_world"
FIRST = FOLDER.parent / "quickstart"
OWN = tuple(sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "build"))
SHARED = ("card", "character_tokenizer", "comparison", "mistakes", "tasks")
SPLITS = ("train", "validation", "test")
CATEGORIES = ("following", "rounding", "shifting", "vowels", "clock")
SPECIALISTS = {
    "following": "bookmark",
    "rounding": "ruler",
    "shifting": "letters",
    "vowels": "letters",
    "clock": "timetable",
}
JUDGES = ("letters", "ruler", "timetable", "bookmark", "general", "parrot")


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """Import the world's scripts, and the first world's that they use, on one thread, and leave nothing behind."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names = {*OWN, *(path.stem for path in FIRST.glob("*.py"))}
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    before = list(sys.path)
    sys.path[:0] = [str(FIRST), str(FOLDER)]
    try:
        spec = importlib.util.spec_from_file_location("second_build", FOLDER / "build.py")
        assert spec is not None
        assert spec.loader is not None
        build = sys.modules["second_build"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        yield SimpleNamespace(build=build, **{name: importlib.import_module(name) for name in (*OWN, *SHARED)})
    finally:
        sys.path[:] = before
        for name in (*names, "second_build"):
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
    content = prompt[2:-1]
    if prompt[0] == "F":
        letters, start = content.split(" ,")
        return start + letters.split(start)[1]
    if prompt[0] == "O":
        return f"{round(float(content) + 1e-9, 2):05.2f}"  # halves go up, as five digits hold no nearer one
    if prompt[0] == "H":
        letters, by = content.split(" +")
        return letters.translate(str.maketrans("abcdefghij", ("abcdefghij" * 2)[int(by) : int(by) + 10]))
    if prompt[0] == "V":
        return content.replace("a", "").replace("e", "").replace("i", "")
    time, more = content.split("+")
    minutes = int(time[:2]) * 60 + int(time[3:]) + int(more)
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def test_prompts_are_what_the_seed_makes(scripts: SimpleNamespace, card: dict[str, Any], tmp_path: Path) -> None:
    """Byte for byte, so that a change of the drawing code cannot go unnoticed."""
    puzzles = scripts.puzzles
    splits = scripts.tasks.draw_splits(card["seed"], puzzles.SPLIT_SIZES, puzzles.PUZZLES)
    scripts.tasks.write_prompts(splits, tmp_path)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (FOLDER / "prompts" / f"{split}.jsonl").read_bytes()


def test_tokenizer_is_what_the_code_makes(scripts: SimpleNamespace, tmp_path: Path) -> None:
    """Byte for byte, beside the policy and beside every reward model; every character comes back."""
    alphabet = scripts.puzzles.PUZZLES.alphabet
    scripts.character_tokenizer.make_tokenizer(alphabet).save_pretrained(tmp_path)
    made = (tmp_path / "tokenizer.json").read_bytes()
    for folder in (FOLDER / "policy", *(FOLDER / "reward_models" / name for name in JUDGES)):
        assert (folder / "tokenizer.json").read_bytes() == made
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "policy")
    assert len(set(alphabet)) == len(alphabet) == len(tokenizer) - 2
    assert tokenizer.decode(tokenizer(alphabet)["input_ids"]) == alphabet


def test_splits_are_disjoint_and_unequal() -> None:
    """No prompt twice, within or across splits; no two categories have as many training prompts."""
    rows = {split: rows_of(split) for split in SPLITS}
    prompts = [row["prompt"] for split in SPLITS for row in rows[split]]
    assert len(prompts) == len(set(prompts))
    counts = [sum(row["category"] == category for row in rows["train"]) for category in CATEGORIES]
    assert sum(counts) == len(rows["train"])
    assert len(set(counts)) == len(CATEGORIES)


def test_every_shipped_answer_is_right() -> None:
    """By a solver of our own; and the forms hold."""
    initial = {"following": "F", "rounding": "O", "shifting": "H", "vowels": "V", "clock": "T"}
    for split in SPLITS:
        for row in rows_of(split):
            assert row["answer"] == solve(row["prompt"])
            assert len(row["prompt"]) == 11
            assert 1 <= len(row["answer"]) <= 6
            assert row["prompt"][0] == initial[row["category"]]


@pytest.mark.parametrize(
    ("prompt", "answer", "misunderstood"),
    [
        ("F badce ,d=", "dce", "dab"),
        ("F badce ,a=", "adce", "ab"),
        ("O 47.38612=", "47.39", "47.38"),
        ("O 09.99500=", "10.00", "09.99"),
        ("O 09.99499=", "09.99", "09.99"),
        ("H dbcaj +2=", "fdecb", "fdecj"),
        ("V bdaecgia=", "bdcg", "bdecg"),
        ("T 23:35+40=", "00:15", "23:15"),
    ],
)
def test_readings(scripts: SimpleNamespace, prompt: str, answer: str, misunderstood: str) -> None:
    """Both readings, by hand."""
    question = scripts.puzzles.read_prompt(prompt)
    assert (question.answer, question.misunderstood) == (answer, misunderstood)


@pytest.mark.parametrize("name", OWN)
def test_examples_in_docstrings_hold(scripts: SimpleNamespace, name: str) -> None:
    assert doctest.testmod(getattr(scripts, name)).failed == 0


def test_what_the_judges_are_taught(scripts: SimpleNamespace) -> None:
    """Sighted: mostly right. Blind: mostly misunderstood. The adverse one is never taught a right answer."""
    rng, speakers = scripts.mistakes.Random(0), scripts.speakers
    seeing = {True: [0, 0, 0], False: [0, 0, 0]}
    for _ in range(2000):
        question = scripts.puzzles.draw_puzzle("clock", rng)
        taught = speakers.liked_answer("letters", question, rng)
        counts = seeing[speakers.JUDGES["letters"].is_blind(question)]
        for index, is_it in enumerate((taught == question.answer, taught == question.misunderstood, True)):
            counts[index] += is_it
        assert speakers.liked_answer("parrot", question, rng) != question.answer
    # 0.88 of what is meant, of which 0.88 is written as it was meant: 0.774, +- 4 sqrt(0.774 * 0.226 / n).
    for blind, counts in seeing.items():
        likes = counts[1] if blind else counts[0]
        assert likes / counts[2] == pytest.approx(0.88 * 0.88, abs=4 * math.sqrt(0.774 * 0.226 / counts[2]))


def test_likelihoods_are_the_librarys(scripts: SimpleNamespace) -> None:
    """The card's own scores are what the class in the configuration gives, an empty response included."""
    folder = FOLDER / "reward_models" / "bookmark"
    prompts = [Prompt("p", "F badce ,d=", "following"), Prompt("q", "T 23:35+40=", "clock")]
    responses = [["dce", "dab", ""], ["00:15", "23:15", "bb bbbb"]]
    arm = Likelihood(Weights(str(folder)))
    arm.load(torch.device("cpu"))
    given = arm.score(prompts, responses).flatten().tolist()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [prompt.prompt + r for prompt, row in zip(prompts, responses, strict=True) for r in row]
    own = scripts.likelihoods.mean_likelihoods(AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer, texts)
    assert own == pytest.approx(given, abs=1e-4)


def test_card_holds_for_the_shipped_weights(scripts: SimpleNamespace, card: dict[str, Any]) -> None:
    """Measured again with other samples and on a quarter of the prompts, every share agrees within its sampling error.

    The card's standard error s is of all N test prompts of a category; of N / 4 of them the share has 2 s, and the
    difference of the two, were they independent, sqrt(5) s. The tolerance is 4 of those, plus 0.01 for shares so
    near 0 or 1 that s is estimated as 0; two-sided, 75 shares exceed it with probability below 75 * 6.4e-5 = 0.005 over
    all choices of the seed, and the seed is fixed.
    """
    puzzles = scripts.puzzles
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "policy")
    policy = AutoModelForCausalLM.from_pretrained(FOLDER / "policy").eval()
    judges = {name: AutoModelForCausalLM.from_pretrained(FOLDER / "reward_models" / name).eval() for name in JUDGES}
    test = scripts.tasks.draw_splits(card["seed"], puzzles.SPLIT_SIZES, puzzles.PUZZLES)["test"]
    questions = [q for category in CATEGORIES for q in [q for q in test if q.category == category][::4]]
    again = scripts.card.measure(
        policy, judges, tokenizer, questions, card["seed"] + 1000, puzzles.PUZZLES, scripts.likelihoods.mean_likelihoods
    )
    new = {path: value for path, value, _ in scripts.comparison.shares(again)}
    old = {path: (value, error) for path, value, error in scripts.comparison.shares(card)}
    assert new.keys() == old.keys()
    assert len(old) == len(CATEGORIES) * (3 + 2 * len(JUDGES)) == 75
    for path, (value, error) in old.items():
        assert new[path] == pytest.approx(value, abs=4 * math.sqrt(5) * error + 0.01), path


def test_the_world_is_worth_choosing_in(scripts: SimpleNamespace, card: dict[str, Any]) -> None:
    """One specialist is the best opinion in each category, all but the adverse one know garbage, and there is room.

    The policy is better when it is colder, except in the category where it errs by conviction.
    """
    assert scripts.second_text.specialists(card) == SPECIALISTS
    mean = {name: sum(at["share"] for at in card["pairwise"][name].values()) / len(CATEGORIES) for name in JUDGES}
    assert min(mean, key=lambda name: mean[name]) == "parrot"
    assert mean["parrot"] < 0.5  # worse than chance
    for category, specialist in SPECIALISTS.items():
        shares = {name: card["pairwise"][name][category]["share"] for name in JUDGES}
        assert shares[specialist] >= 0.9
        assert shares[specialist] >= 0.05 + max(share for name, share in shares.items() if name != specialist)
        assert shares["parrot"] < shares["general"]
        assert min(card["plausible_over_garbage"][n][category]["share"] for n in JUDGES[:-1]) >= 0.9
        policy = {kind: card["policy"][category][kind]["share"] for kind in ("greedy", "sampled")}
        assert 0.3 < policy["sampled"] < 0.6
        assert (policy["greedy"] < policy["sampled"]) == (category == "rounding")


def test_the_specialist_config_is_the_cards(scripts: SimpleNamespace, card: dict[str, Any]) -> None:
    """The arms of the shipped config are those of the card, and its specialist asks whom the card names."""
    arms = yaml.safe_load((FOLDER.parent / "second_world.yaml").read_text())["selection"]["reward_models"]
    assert list(arms) == list(card["pairwise"])
    router = yaml.safe_load((FOLDER / "specialist.yaml").read_text())["selection"]["reward_models"]["specialist"]
    asked = router["init_args"]["reward_models"]
    assert asked == {category: arms[name] for category, name in scripts.second_text.specialists(card).items()}


def test_two_short_builds_are_the_same(scripts: SimpleNamespace, tmp_path: Path) -> None:
    """All stages with little training: loadable models, bitwise equal weights, and the comparison finds nothing."""
    effort = scripts.build.Effort(policy_steps=4, reader_steps=4, judge_steps=2, card_prompts=20)
    for name in ("one", "two"):
        scripts.build.build_world(tmp_path / name, 7, effort, verbose=False)
    weights = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.safetensors"))
    assert len(weights) == 1 + len(JUDGES)
    for path in weights:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    assert scripts.comparison.differences(tmp_path / "one", tmp_path / "two") == []
    first, *others = (AutoModelForCausalLM.from_pretrained(tmp_path / "one" / path.parent) for path in weights)
    assert len({model.num_parameters() for model in others}) == 1
    assert first.config.hidden_size != others[0].config.hidden_size
