"""The file of metrics loses nothing: not when a column is new, not when a run goes on, not when it is killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.run.metrics_csv import read_metrics
from laser_pl.run.metrics_file import MetricsFile

NAMES = st.sampled_from(["train/loss", "train/pairs", "validation/accuracy", "a, b", 'quoted "name"'])
VALUES = st.floats(allow_nan=False, width=32) | st.integers(0, 9)
ROWS = st.lists(st.tuples(st.integers(0, 20), st.dictionaries(NAMES, VALUES, min_size=1)), max_size=12)


@given(rows=ROWS)
def test_what_is_logged_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    """Row by row, to the last bit, whenever names appear."""
    path = tmp_path_factory.mktemp("run") / "metrics.csv"
    logger = MetricsFile(path)
    for step, metrics in rows:
        logger.log_metrics(metrics, step)
    assert read_metrics(path) == rows


@given(rows=ROWS, kept=st.integers(0, 14))
def test_a_run_that_goes_on_writes_the_file_of_one_that_was_not_interrupted(
    tmp_path_factory: pytest.TempPathFactory, rows: list, kept: int
) -> None:
    whole, path = (tmp_path_factory.mktemp("run") / "metrics.csv" for _ in range(2))
    for file in (whole, path):
        logger = MetricsFile(file)
        for number, metrics in rows:
            logger.log_metrics(metrics, number)
        assert logger.count == len(rows)
    resumed = MetricsFile(path)
    resumed.keep_first(kept)
    assert resumed.count == min(kept, len(rows))
    for number, metrics in rows[kept:]:
        resumed.log_metrics(metrics, number)
    assert read_metrics(path) == rows
    assert resumed.count == len(rows)
    if rows:
        assert path.read_bytes() == whole.read_bytes()


def test_a_torn_row_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsFile(path).log_metrics({"loss": 0.5, "other": 1.5}, 0)
    whole = path.read_bytes()
    for torn in ("1,0.2", "1,0.25,1"):
        path.write_bytes(whole + torn.encode())
        logger = MetricsFile(path)
        logger.keep_first(9)
        assert path.read_bytes() == whole


def test_a_new_column_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    logger = MetricsFile(path)
    logger.log_metrics({"loss": 0.5}, 0)
    before = path.read_bytes()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        logger.log_metrics({"accuracy": 0.5}, 1)
    assert path.read_bytes() == before
