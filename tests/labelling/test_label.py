"""Asking people: which prompts, how they answer, and a run that learns from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from laser_pl.batches import Prompt
from laser_pl.commands.explain import explain_step
from laser_pl.labelling.command import label, main
from laser_pl.labelling.dialogue import said
from laser_pl.labelling.questions import ROUNDS, SHOWN, questions
from laser_pl.report.records import read_records
from tests.runs import Fit

Command = Callable[..., list[str]]

# -- questions -------------------------------------------------------------------------------------------------------


def prompts(count: int, category: str) -> list[Prompt]:
    return [Prompt(f"{category}{n}", f"{category}{n}?", "", category=category) for n in range(count)]


def test_as_many_of_each_category_as_are_wanted_and_none_whose_responses_are_alike() -> None:
    asked: list[str] = []

    def sample(some: list[Prompt]) -> list[list[str]]:
        asked.extend(prompt.id for prompt in some)
        return [["same"] * 6 if prompt.id.endswith(("0", "1")) else list("aabcdefb") for prompt in some]

    lines = questions([*prompts(9, "x"), *prompts(4, "y")], 3, seed=0, sample=sample)
    assert [line["category"] for line in lines] == ["x"] * 3 + ["y"] * 2
    assert not [line for line in lines if line["prompt"].rstrip("?").endswith(("0", "1"))]
    assert all(line["responses"] == list("abcdefgh")[:SHOWN] for line in lines)
    assert len(set(asked)) == len(asked)
    again = questions([*prompts(4, "y"), *prompts(9, "x")], 3, seed=0, sample=sample)
    assert again == lines  # whatever the order of the file
    assert questions(prompts(9, "x"), 3, seed=1, sample=sample) != lines[:3]


def test_a_policy_that_always_says_the_same_is_not_sampled_for_ever() -> None:
    calls = []

    def sample(some: list[Prompt]) -> list[list[str]]:
        calls.append(len(some))
        return [["same", "same", " "] for _ in some]

    assert questions(prompts(100, "x"), 5, seed=0, sample=sample) == []
    assert calls == [5] * ROUNDS


# -- the dialogue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "filled"),
    [
        ("2", {"better": [2]}),
        (" 3,1 ", {"better": [1, 3]}),
        ("= 1 234", {"answer": "1 234"}),
        ("=x", {"answer": "x"}),
        ("Neither", {"better": "neither"}),
        ("4", None),
        ("0", None),
        ("-1", None),
        ("two", None),
        ("²", None),
        ("=", None),
    ],
)
def test_what_a_person_types(typed: str, filled: dict[str, Any] | None) -> None:
    assert said(typed, 3) == filled


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answering(*typed: str) -> Callable[[str], str]:
    waiting = iter(typed)

    def read(prompt: str) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    return read


OPEN = {"prompt": "1+1=", "category": "sums", "responses": ["2", "[red]3"], "better": None, "answer": None}


def test_open_questions_are_asked_and_each_answer_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, screen = tmp_path / "labels.jsonl", StringIO()
    path.write_text("".join(json.dumps({**OPEN, "prompt": f"{n}+1="}) + "\n" for n in range(3)))
    given = ["--out", str(path)]
    assert label(given, Console(file=screen), answering("what", "1", "= 3")) == 2
    assert [line["better"] or line["answer"] for line in lines_of(path)] == [[1], "3", None]
    assert "'what' cannot be understood" in screen.getvalue()
    assert "[red]3" in screen.getvalue()  # what a model wrote is no markup
    assert "2 of 3 questions in" in capsys.readouterr().out
    assert label(given, Console(file=StringIO()), answering("both")) == 3
    assert lines_of(path)[2]["better"] == "both"
    assert f"fit --config preset:few --selection.labels {path}" in capsys.readouterr().out


def test_an_interrupt_keeps_what_was_said(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(OPEN) + "\n" for _ in range(2)))
    typed = iter(["2"])

    def read(prompt: str) -> str:
        for text in typed:
            return text
        raise KeyboardInterrupt

    assert label(["--out", str(path)], Console(file=StringIO()), read) == 1
    assert [line["better"] for line in lines_of(path)] == [[2], None]


def test_a_line_that_is_no_utf_8_costs_no_answer(tmp_path: Path) -> None:
    path, screen = tmp_path / "labels.jsonl", StringIO()
    path.write_text("".join(json.dumps(OPEN) + "\n" for _ in range(2)))
    typed = iter(["2", UnicodeDecodeError("utf-8", b"\xe4", 0, 1, "invalid"), "= \udce4", "= 3"])

    def read(prompt: str) -> str:
        text = next(typed)
        if isinstance(text, UnicodeDecodeError):
            raise text
        return text

    assert label(["--out", str(path)], Console(file=screen), read) == 2
    assert [line["better"] or line["answer"] for line in lines_of(path)] == [[2], "3"]
    assert screen.getvalue().count("does not send UTF-8") == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"prompt": "x"}', "row 1: there is no prompt with responses to ask about"),
        ('{"prompt": [1], "responses": ["a", "b"]}', "row 1: 'prompt', message 1: must have a role and a content"),
        ('{"prompt": 1, "responses": ["a", "b"]}', "row 1: 'prompt' must be a string or a list of messages"),
        ("[", "this is no JSON"),
    ],
)
def test_a_file_of_something_else_is_left_alone(
    tmp_path: Path, content: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(content + "\n")
    with pytest.raises(SystemExit) as end:
        main(["--out", str(path)])
    assert end.value.code == 2
    assert told in capsys.readouterr().err
    assert path.read_text() == content + "\n"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--per_category=0"], "label: --per_category must be >= 1, got 0."),
        (["--out=labels.csv"], "label: --out is 'labels.csv'. Give it a name that ends with .jsonl."),
        (["--config={}/none.yaml"], "none.yaml"),
        (["--config={}/none.yaml", "--per_categories=3"], "none.yaml"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    tmp_path: Path, given: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([one.format(tmp_path) for one in given])
    assert end.value.code == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_learns_from_what_was_said_and_says_where_likelihoods_mislead(
    fit: Fit, fit_command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "labels.jsonl"
    asked = fit_command(tmp_path)[1:]
    several = ["--trainer.devices=2", "--trainer.strategy=ddp"]  # which a few responses do not need
    assert label([*asked, *several, "--out", str(path), "--per_category=5"]) == 0
    lines = lines_of(path)
    assert {line["category"] for line in lines} == {"addition", "comparing", "reversing", "sorting"}
    assert len(lines) == 20
    for line in lines:  # a person who likes short responses, which no arm is right about
        shortest = min(map(len, line["responses"]))
        line["better"] = [n for n, text in enumerate(line["responses"], 1) if len(text) == shortest]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    signal = ["--selection.signal=laser_pl.feedback.signals.FewAnswers", f"--selection.labels={path}"]
    run = fit(tmp_path, *signal, "--selection.granularity=prompt")
    records = read_records(run.folder.path)
    compared = [line for line in lines if 0 < len(line["better"]) < len(line["responses"])]
    assert sum(line["answers"] for line in records.answers) == len(compared) > 0
    assert all(share["longer"] == 0.0 for line in records.answers if (share := line["by_answers"]))
    screen = StringIO()
    explain_step([str(run.folder.path), "--step=0"], Console(file=screen, width=200))
    misled = {line["category"] for line in records.answers if line["misled"] is not None}
    assert ("likelihoods mislead in" in screen.getvalue()) == bool(
        misled & {line["category"] for line in records.decisions if line["step"] == 0}
    )
    assert "What a few answers say" in run.folder.report.read_text()
    with pytest.raises(SystemExit):
        fit(tmp_path, *signal[1:])  # nobody learns from them
    assert "selection.labels is set, and neither signal nor bandit" in capsys.readouterr().err
