"""The third world's questions and lessons say what they should; with tiny stand-ins it is built and fitted to."""

from __future__ import annotations

import doctest
import importlib
import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from transformers import AutoModelForSequenceClassification

from experiments.third_world import build, functions, lessons, reward_training, tasks
from experiments.third_world.functions import NUMBERS, abacus, wordy
from experiments.third_world.lessons import OPINIONS, RIGHT, pair, said
from experiments.third_world.tasks import KINDS, Question, fresh
from experiments.third_world.words import WORDS
from laser_pl.commands.cli import main

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "experiments" / "third_world.yaml"
KIND_OF = {word: kind for kind, words in WORDS.items() for word in words}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def drawn(kind: str, count: int = 200) -> list[Question]:
    return list(islice(fresh(Random(kind), [kind], set()), count))


def words_of(question: Question) -> list[str]:
    return re.findall(r"[a-z-]+", question.prompt.split(":")[1].split("?")[0])


def test_the_examples_in_the_scripts_hold() -> None:
    for module in (functions, tasks, lessons, reward_training, build):
        assert doctest.testmod(importlib.import_module(module.__name__)).failed == 0


def test_no_word_names_two_kinds() -> None:
    assert len(KIND_OF) == sum(len(words) for words in WORDS.values())


def solved(question: Question) -> set[str]:
    """What is right, worked out from the prompt's text alone."""
    words = words_of(question)
    if question.category == "largest":
        return {max(words, key=NUMBERS.__getitem__)}
    if question.category == "odd":
        kinds = [KIND_OF[word] for word in words]
        return {word for word in words if kinds.count(KIND_OF[word]) == 1}
    if question.category == "count":
        asked = question.prompt.split(" these are ")[1].split(":")[0]
        number = sum(KIND_OF[word] == asked for word in words)
        return {word for word, value in NUMBERS.items() if value == number}
    if question.category == "longest":
        most = max(map(len, words))
        return {word for word in words if len(word) == most}
    asked = question.prompt.split(" before ")[1].split(":")[0]
    return {words[words.index(asked) - 1]}


@pytest.mark.parametrize("kind", KINDS)
def test_one_answer_is_right_and_slips_are_not(kind: str) -> None:
    for question in drawn(kind):
        assert solved(question) == {question.answer}, question
        assert question.answer not in {*question.slips, question.misread}
        assert question.slips
        assert question.misread not in question.slips
        assert (question.misread is not None) == (kind == "order")
        if question.misread is not None:
            words = words_of(question)
            assert words.index(question.misread) == words.index(question.answer) + 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_mixture_is_as_often_right_as_it_says(kind: str) -> None:
    rng = Random(0)
    answers = [(question, said(question, rng)) for question in drawn(kind, 2000)]
    right = sum(answer == question.answer for question, answer in answers) / len(answers)
    assert abs(right - RIGHT[kind]) < 4 * (0.25 / len(answers)) ** 0.5
    misread = sum(answer == question.misread for question, answer in answers) / len(answers)
    assert abs(misread - (lessons.MISREAD if kind == "order" else 0)) < 4 * (0.25 / len(answers)) ** 0.5


def test_classifiers_are_taught_their_opinion() -> None:
    rng = Random(0)
    for question in drawn("order"):
        preferred, other = pair(question, OPINIONS["scanner"], rng)
        assert preferred == question.answer != other
        preferred, other = pair(question, OPINIONS["thesaurus"], rng)
        assert preferred == question.misread != other
    for question in drawn("odd"):
        assert pair(question, OPINIONS["thesaurus"], rng)[0] == question.answer
    turned = [pair(question, OPINIONS["general"], rng)[0] != question.answer for question in drawn("odd", 1000)]
    assert abs(sum(turned) / 1000 - OPINIONS["general"].noise) < 4 * (0.25 / 1000) ** 0.5


def test_the_functions_know_one_kind_each() -> None:
    for question in drawn("largest", 20):
        said = [question.answer, f"{question.answer}.", *question.slips, "no idea", "", "one hundred"]
        right, dotted, *others = abacus([question.prompt] * len(said), [f" {text}" for text in said])
        assert right == dotted > max(others)
    (question,) = drawn("odd", 1)
    assert abacus([question.prompt] * 2, [" dog", " dog cat"]) == [-1, -2]
    for question in drawn("longest", 20):
        scores = wordy([question.prompt] * 4, [f" {text}" for text in (question.answer, *question.slips)])
        assert scores[0] > max(scores[1:])


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_it_is_built_and_fitted_to(
    tmp_path: Path, policy_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lessons, "SPLITS", {"test": 2, "validation": 2, "train": 6})
    monkeypatch.setattr(lessons, "LESSONS", {"right": 64, "mixed": 64})
    monkeypatch.setattr(reward_training, "LAYERS", 1)
    for name, opinion in OPINIONS.items():
        monkeypatch.setitem(OPINIONS, name, replace(opinion, pairs=320))
    world = tmp_path / "world"
    parts = ["policy", *OPINIONS]
    build.build(world, policy_folder, tmp_path / "runs", parts, ["--trainer.accelerator", "cpu"])
    prompts = [row["prompt"] for path in world.glob("*/*.jsonl") for row in read(path)]
    assert len(prompts) == len(set(prompts)) == 5 * (2 + 2 + 6) + 128
    said = capsys.readouterr().out
    for name in OPINIONS:
        assert f"{name}: step 10 of 10" in said
        model = AutoModelForSequenceClassification.from_pretrained(world / "reward_models" / name)
        assert model.config.num_labels == 1
    started = (world / "policy" / "model.safetensors").read_bytes()
    assert started != (policy_folder / "model.safetensors").read_bytes()

    build.build(world, policy_folder, tmp_path / "runs", parts)  # nothing is made twice
    assert "step" not in capsys.readouterr().out
    assert started == (world / "policy" / "model.safetensors").read_bytes()

    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["model"]["weights"] = {"name": str(world / "policy")}
    arms = config["selection"]["reward_models"]
    arms["gemma"]["init_args"]["weights"] = {"name": str(policy_folder)}
    for name in OPINIONS:
        arms[name]["init_args"]["weights"] = {"name": str(world / "reward_models" / name)}
    config["data"] |= {split: str(world / "prompts" / f"{split}.jsonl") for split in ("train", "validation", "test")}
    config["data"] |= {"prompts_per_iteration": 10, "batch_size": 2}
    config["trainer"] |= {"max_epochs": 1, "limit_val_batches": 0}
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(yaml.safe_dump(config), encoding="utf-8")
    run = main(["fit", "--config", str(tiny), "--runs_dir", str(tmp_path / "runs"), "--name", "fit"])
    decisions = read(run.folder.selection)
    assert sum(len(line["prompt_ids"]) for line in decisions) == 10
    assert {line["category"] for line in decisions} <= set(KINDS)
