"""What `init` takes the columns of unlike data files for; the library's own reader reads them so."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laser_pl.data.tables import Table
from laser_pl.errors import ConfigurationError
from laser_pl.first_config.columns import guess_columns

Rows = list[dict[str, Any]]
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def numbered(make: Callable[[int], dict[str, Any]], rows: int = 12) -> Rows:
    return [make(number) for number in range(rows)]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def lines(rows: Rows) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def each(make: Callable[[int], dict[str, Any]]) -> bytes:
    return lines(numbered(make))


def comma(rows: Rows) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


ADD = numbered(lambda n: {"question": f"{n}+1=", "answer": str(n + 1)})
CHAT = [turn("system", "Be brief."), turn("user", "Why?")]
FILES: dict[str, tuple[str, bytes, tuple[str, str | None, str | None], str | None]] = {
    # file's name, its bytes, what the first row's prompt, answer and category are, and the matcher
    "JSON lines": ("a.jsonl", lines(ADD), ("0+1=", "1", None), "Number"),
    "a JSON list": ("a.json", json.dumps(ADD, indent=1).encode(), ("0+1=", "1", None), "Number"),
    "CSV of a spreadsheet, with mark and CRLF": ("a.csv", b"\xef\xbb\xbf" + comma(ADD), ("0+1=", "1", None), "Number"),
    "Parquet": ("a.parquet", parquet(ADD), ("0+1=", "1", None), "Number"),
    "zipped": ("a.jsonl.gz", gzip.compress(lines(ADD)), ("0+1=", "1", None), "Number"),
    "worked solutions": (
        "a.jsonl",
        each(lambda n: {"question": "How many?", "answer": f"{'because ' * 30}\n#### {n},000"}),
        ("How many?", f"{'because ' * 30}\n#### 0,000", None),
        "Number",
    ),
    "chats to be answered": (
        "a.jsonl",
        each(lambda n: {"messages": [*CHAT[:1], turn("user", f"Why {n}?")], "id": n}),
        (str([*CHAT[:1], turn("user", "Why 0?")]), None, None),
        None,
    ),
    "chats that are answered": (
        "a.jsonl",
        each(lambda n: {"messages": [*CHAT, turn("assistant", f"Because {n}.")]}),
        ("Why?", None, None),
        None,
    ),
    "chats of another kind": (
        "a.jsonl",
        each(lambda n: {"conversations": [{"from": "human", "value": f"Hi {n}"}, {"from": "gpt", "value": "!"}]}),
        ("Hi 0", None, None),
        None,
    ),
    "prompt, chosen, rejected": (
        "a.jsonl",
        each(lambda n: {"prompt": f"Write {n}", "chosen": "a good one", "rejected": "no"}),
        ("Write 0", None, None),
        None,
    ),
    "chosen and rejected chats alone": (
        "a.jsonl",
        each(
            lambda n: {
                "chosen": [turn("user", f"Q{n}"), turn("assistant", "a")],
                "rejected": [turn("user", "Q"), turn("assistant", "b")],
            }
        ),
        ("Q0", None, None),
        None,
    ),
    "instruction, input, output": (
        "a.json",
        each(lambda n: {"instruction": f"Sort {n}", "input": "b a" if n % 2 == 0 else "", "output": "word " * 30}),
        ("Sort 0\n\nb a", None, None),
        None,
    ),
    "one column of texts": (
        "a.csv",
        comma(numbered(lambda n: {"Text": f"Once upon {n}"})),
        ("Once upon 0", None, None),
        None,
    ),
    "nested": (
        "a.jsonl",
        each(lambda n: {"id": n, "data": {"question": f"Is {n}?", "answers": {"text": ["yes", "y"], "start": [0, 1]}}}),
        ("Is 0?", "yes", None),
        "YesNo",
    ),
    "no answer": ("a.jsonl", each(lambda n: {"prompt": f"Say {n}", "answer": None}), ("Say 0", None, None), None),
    "a category by its name": (
        "a.jsonl",
        each(lambda n: {"prompt": f"P{n}", "answer": WORDS[n], "subject": ("law", "art")[n % 2]}),
        ("P0", "one", "law"),
        "Exact",
    ),
    "a category by its values, sorted": (
        "a.csv",
        comma(numbered(lambda n: {"query": f"P{n}", "gold": n * 1.5, "band": "low" if n < 6 else "high"})),
        ("P0", "0.0", "low"),
        "Number",
    ),
    "choices and the number of one": (
        "a.jsonl",
        each(lambda n: {"question": "Which?", "choices": ["red", f"blue {n}"], "answer": n % 2, "task": "colours"}),
        ("Which?\nA. red\nB. blue 0", "A", None),
        "Choice",
    ),
    "choices with letters beside them": (
        "a.jsonl",
        each(
            lambda n: {
                "question": f"Which {n}?",
                "choices": {"text": ["x", "y"], "label": ["A", "B"]},
                "answerKey": "B",
            }
        ),
        ("Which 0?\nA. x\nB. y", "B", None),
        "Choice",
    ),
    "choices that stand in the question": (
        "a.jsonl",
        each(lambda n: {"question": f"{n}: red or blue?", "options": ["red", "blue"], "answer": "blue"}),
        ("0: red or blue?", "blue", None),
        "Exact",
    ),
    "a document to be asked about": (
        "a.jsonl",
        each(lambda n: {"context": "Long ago.", "question": f"When {n}?", "answer": "long ago"}),
        ("Long ago.\n\nWhen 0?", "long ago", None),
        "Exact",
    ),
    "formulas": (
        "a.jsonl",
        each(lambda n: {"problem": f"{n}/2", "answer": f"\\frac{{{n}}}{{2}}"}),
        ("0/2", "\\frac{0}{2}", None),
        "Mathematical",
    ),
    "truth values": (
        "a.jsonl",
        each(lambda n: {"question": f"{n}?", "answer": n % 2 == 0}),
        ("0?", "True", None),
        "YesNo",
    ),
    "columns with odd names": (
        "a.csv",
        comma(numbered(lambda n: {"Question": f"What {n}?", "con-text": "of which no template can speak"})),
        ("What 0?", None, None),
        None,
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_columns_are_guessed(tmp_path: Path, kind: str) -> None:
    name, content, expected, matcher = FILES[kind]
    (tmp_path / name).write_bytes(content)
    rows = Table(str(tmp_path / name)).rows()
    found = guess_columns(rows, name)
    read = found.columns().readers()
    first = tuple(
        None if (value := read[of](rows[0])) is None else str(value) for of in ("prompt", "answer", "category")
    )
    assert first == expected
    assert (found.matcher and found.matcher.value["class_path"].rpartition(".")[2]) == matcher
    for row in rows:
        assert str(read["prompt"](row)).strip()
    for guess in (found.prompt, found.answer, found.category, found.response):
        assert guess.why


def read_with(rows: Rows, of: str = "answer") -> list[Any]:
    read = guess_columns(rows, "x").columns().readers()[of]
    return [read(row) for row in rows]


@pytest.mark.parametrize(("first", "written"), [(0, int), (1, int), (0, str), (1, str)])
def test_choices_are_numbered_from_0_or_1(first: int, written: Callable[[int], Any]) -> None:
    rows = numbered(
        lambda n: {"question": f"{n}?", "choices": ["w", "x", "y", f"z{n}"], "answer": written(n % 4 + first)}
    )
    assert read_with(rows) == ["ABCD"[n % 4] for n in range(12)]
    guess = guess_columns(rows, "x").answer
    assert (f"from {first}" in guess.why, bool(guess.ask)) == (True, first == 1)


def test_a_choice_that_nobody_made_is_no_answer() -> None:
    rows = numbered(lambda n: {"question": f"{n}?", "choices": ["x", f"y{n}"], "answer": (0, 1, -1, None)[n % 4]})
    assert read_with(rows)[:4] == ["A", "B", "", ""]


def test_numbers_that_are_no_places_among_the_choices_are_the_answers() -> None:
    rows = numbered(lambda n: {"question": f"{n}?", "options": ["12", "40", f"{n + 40}"], "answer": n + 40})
    assert read_with(rows) == [n + 40 for n in range(12)]


def test_as_many_letters_are_taken_as_are_answers() -> None:
    rows = numbered(lambda n: {"question": f"{n}?", "options": [*"abcdefghi", f"j{n}"], "answer": "ABCDEFGHIJ"[n % 10]})
    found = guess_columns(rows, "x").matcher
    assert found is not None
    assert found.value == {"class_path": "laser_pl.metrics.matchers.Choice", "init_args": {"letters": "ABCDEFGHIJ"}}


def test_rows_need_not_have_what_is_asked_beside_the_prompt() -> None:
    rows = numbered(
        lambda n: (
            {"instruction": f"Do {n}", "answers": [f"a{n}"] if n % 3 else None} | ({"input": "x"} if n % 2 else {})
        )
    )
    assert read_with(rows, "prompt")[:2] == ["Do 0", "Do 1\n\nx"]
    assert read_with(rows)[:2] == ["", "a1"]


def test_a_column_of_prompts_goes_before_what_lies_beside_it() -> None:
    """verl's format."""
    rows = numbered(lambda n: {"prompt": [turn("user", f"{n}?")], "extra_info": {"question": f"raw {n}"}})
    assert guess_columns(rows, "x").prompt.value == "prompt"


def test_written_responses_are_named_and_reference_answers_are_not() -> None:
    solved = numbered(lambda n: {"question": f"{n}?", "rationale": "since it is so", "answer": "yes"})
    assert guess_columns(solved, "x").response.value == "rationale"
    assert guess_columns(ADD, "x").response.value is None
    long = numbered(lambda n: {"question": f"{n}?", "answer": "many words " * 20})
    assert (guess_columns(long, "x").answer.value, guess_columns(long, "x").response.value) == (None, "answer")


def test_what_may_be_meant_otherwise_is_asked() -> None:
    texts = numbered(lambda n: {"a": "short", "b": f"a much longer text, {n}"})
    assert "'b' was taken for the prompt" in guess_columns(texts, "x").prompt.ask
    chats = numbered(
        lambda n: {"messages": [*CHAT, turn("assistant", "."), turn("user", "And?"), turn("assistant", ".")]}
    )
    assert (
        guess_columns(chats, "x").prompt.ask
        == "later turns and system messages of 'messages' are left out of the prompts"
    )
    assert guess_columns(ADD, "x").prompt.ask == ""
    averages = numbered(lambda n: {"prompt": f"{n}", "category": ("average", "high")[n % 2]})
    assert "'average'" in guess_columns(averages, "x").category.why
    assert guess_columns(averages, "x").category.value is None


@pytest.mark.parametrize("rows", [[{"a": 1}], [{"a": None, "b": [1, 2]}], [{}]])
def test_a_table_without_texts_is_refused(rows: Rows) -> None:
    with pytest.raises(ConfigurationError, match=r"^init: no column of 'x\.csv' holds texts or chats"):
        guess_columns(rows, "x.csv")
