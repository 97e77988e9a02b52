"""Rows from files of every kind, and errors that name the place."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.data.tables import Table
from laser_pl.errors import ConfigurationError

ROWS = [{"prompt": "a, b", "answer": "007"}, {"prompt": "two\nlines", "answer": "1e3"}, {"prompt": "ü", "answer": ""}]


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "answer"])
        writer.writeheader()
        writer.writerows(ROWS)


def zipped(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def write_zipped(path: Path) -> None:
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return write_zipped


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.jsonl", write_jsonl),
        ("rows.json", write_jsonl),
        ("rows.jsonl.gz", zipped(write_jsonl)),
        ("rows.csv", write_csv),
        ("rows.CSV", write_csv),
        ("rows.v2.csv.gz", zipped(write_csv)),
        ("rows.parquet", lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path)),
        ("folder", lambda path: Dataset.from_list(ROWS).save_to_disk(str(path))),
    ],
)
def test_every_kind_gives_the_same_rows(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    assert Table(str(tmp_path / name)).rows() == ROWS


@given(st.lists(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none())), min_size=1, max_size=5))
def test_json_lines_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    """Whatever is in the strings, line separators of other alphabets included."""
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8", newline="")
    assert Table(str(path)).rows() == rows


def test_a_split_of_a_saved_folder(tmp_path: Path) -> None:
    DatasetDict(train=Dataset.from_list(ROWS[:1]), test=Dataset.from_list(ROWS[1:])).save_to_disk(str(tmp_path / "d"))
    assert Table(str(tmp_path / "d"), split="test").rows() == ROWS[1:]


@pytest.mark.parametrize("of", ["torch", "numpy", "arrow", "pandas"])
def test_rows_of_a_saved_folder_are_plain_values_of_all_columns(tmp_path: Path, of: str) -> None:
    saved = Dataset.from_list([{"prompt": "1+1=", "answer": 2}, {"prompt": "2+2=", "answer": 4}])
    saved.with_format(of, columns=["answer"]).save_to_disk(str(tmp_path / "d"))
    rows = Table(str(tmp_path / "d")).rows()
    assert rows == [{"prompt": "1+1=", "answer": 2}, {"prompt": "2+2=", "answer": 4}]
    assert {type(value) for row in rows for value in row.values()} == {str, int}


@pytest.mark.parametrize("split", ["dev", None])
def test_a_missing_split_lists_those_there_are(tmp_path: Path, split: str | None) -> None:
    DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS)).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(ConfigurationError, match=rf"splits train, test, not {split}\. Set split"):
        Table(str(tmp_path / "d"), split=split).rows()


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x.jsonl", f"{'x' * 300}.jsonl", f"{'x' * 300}.csv.gz"])
def test_a_file_that_cannot_be_is_a_missing_file(path: str) -> None:
    with pytest.raises(ConfigurationError, match="There is no file '"):
        Table(path).rows()


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "x" * 300])
def test_a_folder_that_cannot_be_is_no_data_set(path: str) -> None:
    with pytest.raises(ConfigurationError, match="Cannot read a data set from '"):
        Table(path).rows()


@pytest.mark.parametrize("name", ["no.jsonl", "no.csv", "no.parquet", "no.csv.gz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"There is no file '.*{name}'"):
        Table(str(tmp_path / name)).rows()


def test_a_name_that_is_nothing_here_and_no_hub_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Cannot read a data set from 'no/such_data'") as caught:
        Table("no/such_data").rows()
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_data_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    with pytest.raises(ConfigurationError, match=r"Cannot read a data set from .*odd"):
        Table(str(tmp_path / "odd")).rows()


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.csv"])
def test_an_empty_table_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n" if name.endswith("l") else "prompt,answer\n")
    with pytest.raises(ConfigurationError, match="has no rows"):
        Table(str(tmp_path / name)).rows()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\n{"a": 2}\n{"a": oops}\n', "line 4: this is no JSON"),
        (b'{"a": 1}\n[1, 2]\n', "line 2: expected an object, got list"),
        (b'{"a": 1}\n{"a": "2"\n', "line 2: this is no JSON"),
        (b'{"a": 1}\n{"a": 2}\n{"a": "\xff"}\n', "line 3: this is no UTF-8"),
    ],
    ids=["no JSON", "no object", "unfinished", "no UTF-8"],
)
@pytest.mark.parametrize("zip_it", [False, True], ids=["plain", "zipped"])
def test_json_errors_name_the_line(tmp_path: Path, content: bytes, message: str, zip_it: bool) -> None:
    path = tmp_path / ("rows.jsonl.gz" if zip_it else "rows.jsonl")
    path.write_bytes(gzip.compress(content) if zip_it else content)
    with pytest.raises(ConfigurationError, match=rf"{path.name}, {message}"):
        Table(str(path)).rows()


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_file_may_be_one_list(tmp_path: Path, indent: int | None) -> None:
    (tmp_path / "rows.json").write_text("\n" + json.dumps(ROWS, indent=indent))
    assert Table(str(tmp_path / "rows.json")).rows() == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1},\n {"a": oops}]', r"line 2: this is no JSON"),
        ('[{"a": 1},\n {"a": 2}', r"line 2: this is no JSON"),
        ('[{"a": 1}, 2]', r"row 2: expected an object, got int"),
        ("[" * 100_000, r"this JSON is nested too deeply"),
    ],
    ids=["no JSON", "unfinished", "no object", "deep"],
)
def test_errors_of_a_json_list_name_the_place(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(ConfigurationError, match=rf"rows\.json.* {message}"):
        Table(str(tmp_path / "rows.json")).rows()


@pytest.mark.parametrize(("name", "told"), [("rows.txt", "a file of another kind"), ("a/b/c.tsv", "neither here")])
def test_no_hub_is_asked_for_what_can_be_no_name_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.txt").write_text("a\n")
    with pytest.raises(ConfigurationError, match=rf"^Cannot read a data set from '{name}': it is {told}"):
        Table(name).rows()


def test_a_csv_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"prompt,answer\nna\xefve,1\n")
    with pytest.raises(ConfigurationError, match=r"rows.csv.*: this is no UTF-8"):
        Table(str(tmp_path / "rows.csv")).rows()


@pytest.mark.parametrize("row", ["How many, in all?,5", "How many"])
def test_a_csv_row_of_another_width_is_refused(tmp_path: Path, row: str) -> None:
    """An unquoted comma would otherwise cut the prompt and make its rest the answer."""
    (tmp_path / "rows.csv").write_text(f"prompt,answer\n1+1,2\n{row}\n")
    with pytest.raises(ConfigurationError, match=r"rows.csv, line 3: expected 2 columns"):
        Table(str(tmp_path / "rows.csv")).rows()


def test_a_csv_cell_may_be_long(tmp_path: Path) -> None:
    """A document of a long-context question; Python's reader stops at 131,072 characters unless told."""
    text = "x" * 200_000
    (tmp_path / "rows.csv").write_text(f"prompt,answer\n{text},1\n")
    assert Table(str(tmp_path / "rows.csv")).rows()[0]["prompt"] == text


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path, name: str) -> None:
    """Spreadsheets write one."""
    content = '{"prompt": "a"}\n' if name.endswith("l") else "prompt\na\n"
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert Table(str(tmp_path / name)).rows() == [{"prompt": "a"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.jsonl.gz", b'{"a": 1}\n'),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-12]),
        ("text.parquet", b"this is no parquet"),
    ],
    ids=["not zipped", "cut off", "no parquet"],
)
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=name):
        Table(str(tmp_path / name)).rows()
