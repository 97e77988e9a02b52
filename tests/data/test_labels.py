"""Labels that people gave: every form, and every way to get one wrong."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laser_pl.batches import Prompt
from laser_pl.data.labels import Compared, compared_in
from laser_pl.errors import ConfigurationError
from laser_pl.metrics.matchers import Number

PROMPTS = [Prompt("1", "2+2=", "Q: 2+2=", "4", "sums"), Prompt("2", "sort ba", "Q: sort ba", "ab", "words")]
CHAT = [{"role": "user", "content": "Hello"}]


def read(folder: Path, *lines: dict[str, Any]) -> list[Compared]:
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return compared_in(str(path), PROMPTS, Number())


def test_a_chat_with_a_time_stamp_is_the_training_prompt_without_it(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "Hi", "timestamp": datetime(2026, 1, 1)}
    row = {"prompt": [turn], "chosen": "Hello.", "rejected": "No."}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "labels.parquet")
    known = Prompt("3", [{"role": "user", "content": "Hi"}], "Hi", None, "chats")
    (one,) = compared_in(str(tmp_path / "labels.parquet"), [*PROMPTS, known], Number())
    assert (one.prompt, one.categories) == (known, ("chats",))


def test_a_category_is_known_by_its_name_whatever_its_type(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"prompt": "x", "category": 1, "chosen": "a", "rejected": "b"}\n')
    (one,) = compared_in(str(path), [Prompt("1", "2+2=", "Q: 2+2=", "4", "1"), PROMPTS[0]], Number())
    assert one.categories == ("1",)


@pytest.mark.parametrize(
    ("said", "better"),
    [
        ({"better": [1, 3]}, (True, False, True)),
        ({"better": 2}, (False, True, False)),
        ({"answer": "4"}, (True, False, True)),
        ({"answer": 4, "better": None}, (True, False, True)),
        ({"answer": "7", "better": [2]}, (False, True, False)),  # what was compared counts
    ],
)
def test_numbers_or_an_answer_say_which_are_better(tmp_path: Path, said: dict[str, Any], better: Any) -> None:
    (found,) = read(tmp_path, {"prompt": "2+2=", "responses": ["4", "5", "it is 4"], **said})
    assert found.prompt is PROMPTS[0]
    assert (found.categories, found.better, found.pairs) == (("sums",), better, 2)


@pytest.mark.parametrize("said", [{"better": "both"}, {"better": "neither"}, {"better": "skip"}, {"answer": None},
                                  {"better": []}, {"better": [1, 2]}, {"answer": "9"}])  # fmt: skip
def test_what_says_nothing_is_left_aside(tmp_path: Path, said: dict[str, Any]) -> None:
    silent = {"prompt": "2+2=", "responses": ["4", "5"], **said}
    told = {"prompt": "sort ba", "responses": ["ab", "ba"], "better": [1]}
    assert [one.prompt.id for one in read(tmp_path, silent, told)] == ["2"]
    with pytest.raises(ConfigurationError, match=r"labels\.jsonl: none of its 2 rows says that one response is better"):
        read(tmp_path, silent, silent)


def test_preferences_of_others_are_taken_as_texts_and_as_chats(tmp_path: Path) -> None:
    reply = [*CHAT, {"role": "assistant", "content": "Hi"}]
    text, chat = read(
        tmp_path,
        {"prompt": "new", "chosen": "yes", "rejected": "no", "category": "words"},
        {"prompt": CHAT, "chosen": reply, "rejected": "Go away"},
    )
    assert (text.responses, text.better, text.categories) == (("yes", "no"), (True, False), ("words",))
    assert (chat.responses, chat.categories) == (("Hi", "Go away"), ("sums", "words"))  # it speaks for all
    assert chat.prompt.prompt == CHAT
    assert chat.prompt.id not in {"1", "2", text.prompt.id}


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x.jsonl", f"{'x' * 300}.jsonl"])
def test_a_file_that_cannot_be_is_a_file_that_is_not_there(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^selection\.labels: there is no file '"):
        compared_in(path, PROMPTS, Number())


def test_a_file_that_is_not_there_is_missed_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text("")
    with pytest.raises(
        ConfigurationError, match=r"selection\.labels: there is no file .*labls.* Did you mean .*labels"
    ):
        compared_in(str(tmp_path / "labls.jsonl"), PROMPTS, Number())
    with pytest.raises(
        ConfigurationError, match=r"selection\.labels: there is no file .* Set selection\.labels to a file"
    ):
        compared_in(str(tmp_path), PROMPTS, Number())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"question": "x"}, "row 1: there is no column 'prompt', only question. Set selection.labels to"),
        ({"prompt": ""}, "row 1: column 'prompt'"),
        ({"prompt": "x", "category": "sumz"}, "row 1: no training prompt has the category 'sumz'; there are sums,"
         " words. Did you mean 'sums'?"),
        ({"prompt": "x", "responses": ["only"]}, "row 1: 'responses' must be a list of two texts or more"),
        ({"prompt": "x", "responses": ["a", 5]}, "row 1: column 'responses' must hold a text"),
        ({"prompt": "x", "responses": ["a", "b"], "better": [3]}, "row 1: 'better' is [3]. Give the numbers of the"
         " better responses, from 1 to 2, or one of both, neither, skip."),
        ({"prompt": "x", "responses": ["a", "b"], "better": [0]}, "'better' is [0]"),
        ({"prompt": "x", "responses": ["a", "b"], "better": True}, "'better' is true"),
        ({"prompt": "x", "responses": ["a", "b"], "better": "first"}, "'better' is \"first\""),
        ({"prompt": "x", "responses": ["a", "b"], "answer": ["4"]}, "row 1: 'answer' must be a text or a number"),
        ({"prompt": "x", "chosen": "a"}, "row 1: column 'rejected' must hold a text"),
        ({"prompt": "x", "chosen": CHAT, "rejected": "b"}, "column 'chosen' must hold a text, or a chat that ends"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_with_its_row(tmp_path: Path, line: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, line)
    assert told in str(error.value)
