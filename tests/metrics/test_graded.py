"""Grades between wrong and right, against other implementations and numbers worked out by hand."""

from __future__ import annotations

import random

import pytest
import torch
from torchmetrics.functional.text import rouge_score, squad

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.metrics.accuracy import CategoryAccuracy
from laser_pl.metrics.graded import ByCategory, Classification, RougeL, TokenF1
from laser_pl.metrics.grader import majority_answer
from laser_pl.metrics.matchers import Exact, Number, Regex
from laser_pl.metrics.overlap import rouge_l


def prompt(answer: str | None = "4", category: str = "all", **columns: object) -> Prompt:
    """Of no matter which question."""
    return Prompt("p", "?", "?", answer, category, columns)


def test_f1_is_what_torchmetrics_computes_for_squad() -> None:
    draw = random.Random(0)
    words = ["the", "The", "a", "cat", "cat,", "DOG", "dog.", "u.s.", "-", "7", "é"]
    compared = 0
    for _ in range(300):
        response, *answers = (" ".join(draw.choices(words, k=draw.randint(1, 6))) for _ in range(3))
        if any(not TokenF1().parsed_answer(text, prompt()) for text in (response, *answers)):
            continue  # of texts without a word SQuAD says that they are equal, LongBench that they share nothing
        target = {"id": "1", "answers": {"answer_start": [0, 0], "text": answers}}
        theirs = squad([{"prediction_text": response, "id": "1"}], [target])["f1"]
        ours = TokenF1(answers="answers").grade(response, prompt(answers=answers))
        assert 100 * ours == pytest.approx(float(theirs), abs=1e-4)
        compared += 1
    assert compared > 200


def test_a_text_without_words_is_never_right() -> None:
    assert TokenF1().grade("the", prompt("a")) == 0
    assert RougeL().grade("", prompt("a summary")) == 0
    assert RougeL().grade(".", prompt(".")) == 0


def test_rouge_of_one_sentence_without_repeated_words_is_torchmetrics_rouge_l() -> None:
    draw = random.Random(1)
    for _ in range(200):
        first, second = (" ".join(draw.sample("abcdefgh", draw.randint(1, 8))) for _ in range(2))
        theirs = rouge_score(first, second, rouge_keys="rougeL")["rougeL_fmeasure"]
        assert rouge_l(first, second) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize(
    ("response", "answer", "precision", "recall"),
    [
        ("b a", "a b", 1 / 2, 1 / 2),  # one word in order
        ("Cat", "cat", 0, 0),  # as it is written
        ("cat,", "cat", 0, 0),  # with its comma
        ("a a a", "a", 1, 1),  # distinct words
        ("x y. z w", "x z. y w", 1, 1),  # the union over sentences: x, z, y, w
        ("a b c. d", "d e", 1 / 4, 1 / 2),
    ],
)
def test_rouge_by_hand(response: str, answer: str, precision: float, recall: float) -> None:
    expected = 0 if precision == 0 else 2 * precision * recall / (precision + recall)
    assert rouge_l(response, answer) == pytest.approx(expected, abs=1e-7)


def test_rouge_reads_sentences_of_thousands_of_words() -> None:
    assert rouge_l("word " * 1500, "word " * 1500) == pytest.approx(1)


@pytest.mark.parametrize(
    ("response", "grade"),
    [
        ("It is an Animal.", 1),
        ("animal", 0),  # as it is written
        ("Animal or City", 1 / 2),
        ("Animal, City or Mountain", 1 / 3),
        ("City", 0),
        ("", 0),
    ],
)
def test_a_class_is_right_if_no_other_is_named(response: str, grade: float) -> None:
    asked = prompt("Animal", all_classes=["City", "Animal", "Mountain"])
    assert Classification().grade(response, asked) == pytest.approx(grade)


def test_a_class_whose_name_is_part_of_the_answers_is_not_another() -> None:
    asked = prompt("Other location", all_classes=["Other", "location", "Other location", "Other entity"])
    # LongBench takes "Other" out of the list that it walks through, and so passes over "location".
    assert Classification().grade("Other location", asked) == pytest.approx(1 / 2)
    apart = prompt("Other location", all_classes=["Other", "Other location", "location"])
    assert Classification().grade("Other location", apart) == 1


def test_the_first_line_counts_where_the_policy_goes_on_with_examples() -> None:
    rambling = "\n\nParis\nPassage: another one. Answer: Rome"
    assert TokenF1(first_line=True).grade(rambling, prompt("Paris")) == 1
    assert TokenF1().grade(rambling, prompt("Paris")) < 1


def test_the_best_of_several_answers_counts() -> None:
    several = prompt(answers=["the Volga", "Danube river"])
    assert TokenF1(answers="answers").grade("the Danube", several) == pytest.approx(2 / 3)


def test_a_column_that_holds_no_list_of_answers_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"column 'answers' of the prompt p holds no list .* but str\."):
        TokenF1(answers="answers").grade("x", prompt(answers="one text"))
    with pytest.raises(ConfigurationError, match=r"column 'all_classes' .* but nothing\."):
        Classification().grade("x", prompt())


def test_every_category_has_its_own_grader() -> None:
    by = ByCategory({"qa": TokenF1(), "sums": Number()})
    assert by.grade("4 eggs", prompt("4", "sums")) == 1
    assert by.grade("4 eggs", prompt("4", "qa")) == pytest.approx(2 / 3)
    assert (by.is_right("4 eggs", prompt("4", "qa")), by.is_right("5 eggs", prompt("4", "qa"))) == (True, False)
    assert by.parsed_answer("It is 4.0", prompt("4", "sums")) == 4
    with pytest.raises(ConfigurationError, match=r"no grader for the category 'code', only for qa, sums\. Add one"):
        by.check(["qa", "code"])


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_a_threshold_that_nothing_or_everything_passes_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigurationError, match=f"right_from must be in .0, 1., got {threshold}"):
        TokenF1(right_from=threshold)


@pytest.mark.parametrize(
    ("responses", "place"),
    [
        (["so 4", "5", "Final answer: 4.0", "6"], 0),
        (["no idea", "5", "4", "5"], 1),
        (["7", "8"], 0),  # equally frequent: the first said
        (["no idea", "none"], None),
    ],
)
def test_most_said_is_counted_by_answers(responses: list[str], place: int | None) -> None:
    assert majority_answer(Number(), responses, prompt()) == place


def test_what_is_said_is_what_the_matcher_reads() -> None:
    assert Regex("<(.*?)>").parsed_answer("final answer: <4> <5>", prompt()) == "5"
    assert Exact().parsed_answer(" 4 ", prompt()) == "4"
    assert TokenF1(first_line=True).parsed_answer("The Danube!\nmore", prompt()) == ("danube",)


def test_grades_are_averaged_by_category() -> None:
    accuracy = CategoryAccuracy(["a", "b"])
    accuracy.update("a", torch.tensor([0.25, 0.5], dtype=torch.float64))
    accuracy.update("b", torch.tensor([True, False, True, True]))
    assert {name: float(value) for name, value in accuracy.compute().items()} == {
        "a": 0.375,
        "b": 0.75,
        "average": 0.5625,
    }
