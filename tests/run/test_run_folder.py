"""A run's folder: claimed once, found again, and written whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

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


def begin(runs: Path, folder: str, name: str = "laser", alpha: float = 1.0, finished: bool = False) -> RunFolder:
    run = RunFolder(runs / folder)
    run.path.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump({"name": name, "alpha": alpha}))
    if finished:
        write_json(run.summary, {})
    return run


def fits(folder: RunFolder) -> bool:
    """A call with an alpha of 1."""
    return bool(yaml.safe_load(folder.config.read_text())["alpha"] == 1.0)


def found(runs: Path, name: str = "laser") -> str:
    return str(RunFolder.unfinished(str(runs), name, fits).path.relative_to(runs))


@pytest.mark.parametrize("name", ["laser", "sweep/laser", "v1.2", "alpha=0.1+[x]", "laser-2"])
def test_of_runs_of_one_name_the_one_goes_on_whose_settings_match(tmp_path: Path, name: str) -> None:
    for number, alpha in (("", 2.0), ("-2", 1.0), ("-3", 3.0)):
        begin(tmp_path, name + number, name, alpha)
    assert found(tmp_path, name) == f"{name}-2"


def test_the_only_run_of_a_name_goes_on_with_other_settings(tmp_path: Path) -> None:
    """Which is said, and not refused: more iterations, for example."""
    begin(tmp_path, "laser", alpha=2.0)
    assert found(tmp_path) == "laser"


def test_a_gap_that_a_deleted_run_left_hides_nothing(tmp_path: Path) -> None:
    begin(tmp_path, "laser", finished=True)
    for folder in ("laser-3", "laser-10"):
        begin(tmp_path, folder, alpha=1.0 if folder == "laser-10" else 2.0)
    assert found(tmp_path) == "laser-10"


def test_the_name_of_a_numbered_folder_is_that_folders(tmp_path: Path) -> None:
    begin(tmp_path, "laser")
    begin(tmp_path, "laser-2")
    assert found(tmp_path, "laser-2") == "laser-2"


def test_a_run_whose_own_name_ends_in_a_number_is_no_other_runs(tmp_path: Path) -> None:
    begin(tmp_path, "laser", alpha=2.0)
    begin(tmp_path, "laser-2", name="laser-2")
    assert found(tmp_path) == "laser"
    (tmp_path / "laser" / "summary.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="all 1 of that name are finished"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ([2.0, 3.0], "none of these began with these settings"),
        ([1.0, 1.0], "2 of these began with these settings"),
    ],
)
def test_what_is_not_clear_is_refused_and_listed(tmp_path: Path, alphas: list[float], message: str) -> None:
    for number, alpha in enumerate(alphas, start=1):
        begin(tmp_path, "laser" if number == 1 else f"laser-{number}", alpha=alpha)
    with pytest.raises(ConfigurationError, match=f"{message}.*--resume .*/laser, --resume .*/laser-2"):
        found(tmp_path)


def test_a_finished_run_is_not_replaced_by_one_of_other_settings(tmp_path: Path) -> None:
    begin(tmp_path, "laser", finished=True)
    begin(tmp_path, "laser-2", alpha=2.0)
    with pytest.raises(ConfigurationError, match="1 did not end and none of these began with these settings"):
        found(tmp_path)


@pytest.mark.parametrize("runs", [0, 2])
def test_nothing_to_resume_is_an_error(tmp_path: Path, runs: int) -> None:
    for number in range(runs):
        begin(tmp_path, ["laser", "laser-2"][number], finished=True)
    message = "all 2 of that name are finished" if runs else "none of that name"
    with pytest.raises(ConfigurationError, match=f"no unfinished run 'laser'.*{message}"):
        found(tmp_path)


def test_a_run_is_named_by_its_folder(tmp_path: Path) -> None:
    run = begin(tmp_path, "laser")
    assert RunFolder.unfinished_at(run.path).path == run.path
    write_json(run.summary, {})
    with pytest.raises(ConfigurationError, match="laser' is finished"):
        RunFolder.unfinished_at(run.path)
    with pytest.raises(ConfigurationError, match="is no run's folder"):
        RunFolder.unfinished_at(tmp_path)


def test_of_a_finished_run_it_is_said_how_it_is_trained_for_longer(tmp_path: Path) -> None:
    run = begin(tmp_path, "laser", finished=True)
    run.config.write_text(f"{run.config.read_text()}\ntrainer: {{max_epochs: 10}}\n")
    run.checkpoint.parent.mkdir()
    run.checkpoint.touch()
    how = r"--ckpt_path .*laser/checkpoints/last\.ckpt --trainer\.max_epochs N, with N above 10\.$"
    with pytest.raises(ConfigurationError, match=how):
        RunFolder.unfinished_at(run.path)
    with pytest.raises(ConfigurationError, match=how):
        found(tmp_path)


@pytest.mark.parametrize("name", [".", "laser/checkpoints"])
def test_no_run_lies_in_another_or_is_the_folder_of_all(tmp_path: Path, name: str) -> None:
    begin(tmp_path, "laser")
    with pytest.raises(ConfigurationError, match="Choose another"):
        RunFolder.claim(str(tmp_path), name)


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
