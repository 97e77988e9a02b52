"""Rows of a data set, wherever it lies: JSONL, CSV, Parquet, a saved `datasets` folder or a hub name."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest_path, perhaps
from laser_pl.run.bounds import memory_for

Row = dict[str, Any]

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MOST_BYTES_OF_LINE = 2**26
_LEAST_BOMB, _MOST_TIMES = 2**24, 200
"""Bytes of an unzipped file, and how many times its own size that may be: text has 3 to 20."""


@dataclass
class Table:
    """Where rows come from.

    JSON lines and CSV are read line by line here, not through `datasets`, so that an error can name the line, and so
    that an answer like ``007`` stays text.

    Attributes:
        path: A file, a folder saved by ``datasets``, or a hub name. A file is ``.jsonl``, ``.json`` (lines, or one
            list), ``.csv`` or ``.parquet``; all but Parquet may be gzipped.
        subset: The hub data set's configuration, where it has several.
        split: Which split of a folder or hub data set.
    """

    path: str
    subset: str | None = None
    split: str | None = None

    @staticmethod
    def of(source: Table | str) -> Table:
        """One of a path alone, or as it is."""
        return Table(source) if isinstance(source, str) else source

    def rows(self) -> list[Row]:
        """All rows.

        Raises:
            ConfigurationError: If there is nothing there, or a line cannot be read.
        """
        path = self._place
        suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
        kind = suffixes[-1].lower() if suffixes else ""
        if kind in {".jsonl", ".json", ".csv", ".parquet"} and not os.path.isfile(path):
            advice = perhaps(closest_path(path), "Check the path under data.")
            raise ConfigurationError(f"There is no file '{self.path}'.{advice}")
        if kind in {".jsonl", ".json"}:
            rows = list(_json_lines(path))
        elif kind == ".csv":
            rows = list(_csv(path))
        elif kind == ".parquet":
            rows = _parquet(path)
        else:
            rows = self._dataset()
        if not rows:
            raise ConfigurationError(f"'{self.path}' has no rows.")
        return rows

    @property
    def _place(self) -> Path:
        # os.path here and below: pathlib raises where nobody has the name behind ~, or a name is too long for a file.
        return Path(os.path.expanduser(self.path))

    def _dataset(self) -> list[Row]:
        folder = self._place
        if os.path.isfile(folder) or (not os.path.isdir(folder) and not _HUB_NAME.fullmatch(self.path)):
            found = "a file of another kind" if os.path.isfile(folder) else "neither here nor a hub's name"
            raise ConfigurationError(
                f"Cannot read a data set from '{self.path}': it is {found}. Give a .jsonl, .json, .csv or .parquet"
                " file, a folder saved by `datasets`, or a hub name."
            )
        from datasets import DatasetDict, load_dataset, load_from_disk  # here, since most tables need none of it

        try:
            loaded = load_from_disk(str(folder)) if folder.is_dir() else load_dataset(self.path, self.subset)
        except Exception as error:  # whatever a broken folder, or a hub out of reach, makes `datasets` raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigurationError(
                f"Cannot read a data set from '{self.path}': {reason}. Give a .jsonl, .csv or .parquet file, a folder"
                " saved by `datasets`, or a hub name."
            ) from error
        if isinstance(loaded, DatasetDict):
            if self.split not in loaded:
                raise ConfigurationError(
                    f"'{self.path}' has the splits {', '.join(loaded)}, not {self.split}. Set split to one of them."
                )
            loaded = loaded[self.split]
        return [dict(row) for row in loaded.with_format(None)]  # plain values, and all columns


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def _parquet(path: Path) -> list[Row]:
    try:
        with path.open("rb") as file, memory_for(file):
            rows: list[Row] = pq.read_table(file, use_threads=False).to_pylist()
    except MemoryError:
        raise ConfigurationError(f"{path} holds more than 200 times what its bytes can say. Cut it up.") from None
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # the latter two: values Python has not
        raise ConfigurationError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    return rows


def _decoded(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, without the byte order mark that spreadsheets write."""
    number = 0
    try:
        with _open(path) as lines:
            size, read = path.stat().st_size, 0
            most = max(_LEAST_BOMB, _MOST_TIMES * size) if path.suffix == ".gz" else sys.maxsize
            while line := lines.readline(_MOST_BYTES_OF_LINE):
                number, read = number + 1, read + len(line)
                if len(line) == _MOST_BYTES_OF_LINE:
                    raise ConfigurationError(f"{path}, line {number}: it has more than {len(line):,} bytes. Cut it up.")
                if read > most:
                    raise ConfigurationError(
                        f"{path} unzips to more than {most:,} bytes, of {size:,}: no text is that repetitive. Unzip it."
                    )
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}, line {number}: this is no UTF-8 ({error.reason}).") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be unzipped after line {number}: {error}.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None


def _json_lines(path: Path) -> Iterator[Row]:
    first = True
    for number, line in _decoded(path):
        if not line.strip():
            continue
        if first and line.lstrip().startswith("["):
            yield from _json_list(path)
            return
        first = False
        yield _object(_parsed(line, path, number), f"{path}, line {number}")


def _json_list(path: Path) -> Iterator[Row]:
    """The objects of a file that is one list."""
    rows = _parsed("".join(line for _, line in _decoded(path)), path)
    for number, row in enumerate(rows, start=1):
        yield _object(row, f"{path}, row {number}")


def _parsed(text: str, path: Path, line: int | None = None) -> Any:
    """What JSON holds, of a whole file or of one of its lines."""
    where = f"{path}" if line is None else f"{path}, line {line}"
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"{path}, line {line or error.lineno}"
        raise ConfigurationError(f"{at}: this is no JSON ({error.msg}, column {error.colno}).") from None
    except ValueError:
        raise ConfigurationError(f"{where}: a whole number is too long to be read.") from None
    except RecursionError:
        raise ConfigurationError(f"{where}: this JSON is nested too deeply.") from None


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise ConfigurationError(f"{where}: expected an object, got {type(row).__name__}.")
    return row


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # a cell may hold a long document
    reader = csv.DictReader(line for _, line in _decoded(path))
    try:
        for name, count in Counter(reader.fieldnames or []).items():
            if count > 1:  # the last would be taken without a word
                raise ConfigurationError(f"{path}, line 1: {count} columns are named '{name}'. Name each its own way.")
        for row in reader:
            # DictReader keeps what is too much under None, and fills up what is missing with None.
            if None in row or None in row.values():
                raise ConfigurationError(
                    f"{path}, line {reader.line_num}: expected {len(reader.fieldnames or [])} columns. Quote cells that"
                    " hold commas."
                )
            yield row
    except csv.Error as error:
        raise ConfigurationError(f"{path}, line {reader.line_num}: this is no CSV ({error}).") from None
