"""A run's folder: claimed once, found again, and written whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from laser_pl.errors import ConfigurationError
from laser_pl.run.files import write_json, write_whole
from laser_pl.run.folder import RunFolder


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    found = [RunFolder.claim(str(tmp_path / "runs"), "laser").path.name for _ in range(3)]
    assert found == ["laser", "laser-2", "laser-3"]


def test_a_file_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "laser").write_text("mine")
    assert RunFolder.claim(str(tmp_path), "laser").path.name == "laser-2"
    assert (tmp_path / "laser").read_text() == "mine"


def test_two_runs_that_start_together_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.claim(str(tmp_path), "laser").path, range(24)))
    assert len(set(folders)) == 24


def test_a_place_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"Cannot make .*file/laser'.*--runs_dir"):
        RunFolder.claim(str(tmp_path / "file"), "laser")


@pytest.mark.parametrize("name", ["../elsewhere", "/elsewhere", " "])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"--name '{name}' is no name of a folder"):
        RunFolder.claim(str(tmp_path / "runs"), name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("finished", "expected"),
    [([False], "laser"), ([True, False], "laser-2"), ([False, True], "laser"), ([False, False, True], "laser-2")],
)
def test_resume_takes_the_newest_unfinished(tmp_path: Path, finished: list[bool], expected: str) -> None:
    for done in finished:
        folder = RunFolder.claim(str(tmp_path), "laser")
        if done:
            write_json(folder.summary, {})
    assert RunFolder.newest_unfinished(str(tmp_path), "laser").path == tmp_path / expected


@pytest.mark.parametrize(("runs", "message"), [(0, "none of that name"), (2, "all 2 of that name are finished")])
def test_nothing_to_resume_is_an_error(tmp_path: Path, runs: int, message: str) -> None:
    for _ in range(runs):
        write_json(RunFolder.claim(str(tmp_path), "laser").summary, {})
    with pytest.raises(ConfigurationError, match=f"no unfinished run 'laser'.*{message}"):
        RunFolder.newest_unfinished(str(tmp_path), "laser")


def test_every_file_lies_in_the_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    files = [folder.config, folder.metrics, folder.selection, folder.checkpoint, folder.adapter, folder.summary]
    assert len(set(files)) == 6
    assert all(tmp_path / "r" in file.parents for file in files)


def test_an_interrupted_write_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_whole(path, "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"accuracy": {"before": None, "after": {"größer": 0.5}}, "steps": 3}
    write_json(tmp_path / "summary.json", value)
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == value
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
