"""The installed package takes no name that is a user's, and stands beside a user's own package ``callbacks``."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from laser_pl.callbacks import RewardSelection
from laser_pl.command_line.parser import Parser
from laser_pl.errors import ConfigurationError
from laser_pl.moved import OUR_CALLBACKS
from laser_pl.run.named_code import refuse_code

ROOT = Path(__file__).resolve().parents[2]
LITTLE = ("--data.prompts_per_iteration=4", "--data.rollouts.n=2", "--selection.pairs.per_prompt=1")
OWN = """
from lightning.pytorch import Callback


class Bell(Callback):
    def on_train_end(self, trainer, module):
        print("the user's bell rings", flush=True)
"""
WHOSE = """
from importlib.util import find_spec
import laser_pl, callbacks
print(find_spec("laser_pl.callbacks").origin)
print(callbacks.__file__)
try:
    import callbacks.run_record
except ModuleNotFoundError as error:
    print(error)
"""


def write_own(folder: Path, text: str = "") -> Path:
    """A user's own package of that name."""
    (folder / "callbacks").mkdir()
    (folder / "callbacks/__init__.py").write_text(text)
    return folder / "callbacks/__init__.py"


def test_the_wheel_has_one_name_at_the_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"laser_pl"}
    assert {f"laser_pl/callbacks/{name}.py" for name in OUR_CALLBACKS} <= set(names)
    assert not [name for name in names if "laser_pl/docs" in name]


@pytest.mark.parametrize("where", ["working directory", "site-packages"])
def test_an_own_package_is_neither_hidden_nor_in_the_way(installed: Path, tmp_path: Path, where: str) -> None:
    (packages,) = installed.parents[1].glob("lib/python*/site-packages")
    own = write_own(tmp_path if where == "working directory" else packages)
    try:
        done = subprocess.run([str(installed), "-c", WHOSE], cwd=tmp_path, capture_output=True, text=True)
        ours, theirs, missing = done.stdout.splitlines()
        assert Path(ours) == packages / "laser_pl/callbacks/__init__.py"
        assert Path(theirs) == own
        assert missing == "No module named 'callbacks.run_record'"
        assert done.stderr == ""
    finally:
        shutil.rmtree(own.parent)


def test_a_run_in_a_folder_with_an_own_package(
    installed: Path, tmp_path: Path, fit_command: Callable[..., list[str]]
) -> None:
    write_own(tmp_path, OWN)
    words = fit_command(tmp_path, "--trainer.callbacks+=callbacks.Bell", *LITTLE)
    done = subprocess.run(
        [str(installed), "-m", "laser_pl", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "the user's bell rings" in done.stdout
    (named,) = yaml.safe_load((tmp_path / "runs/small/config.yaml").read_text())["trainer"]["callbacks"]
    assert named["class_path"] == "callbacks.Bell"
    assert (tmp_path / "runs/small/report.html").exists()


@pytest.mark.parametrize("old", ["callbacks.RewardSelection", "callbacks.reward_selection.RewardSelection"])
@pytest.mark.parametrize("wraps", ["%s", "{class_path: %s, init_args: {}}"])
def test_an_old_class_path_is_the_class_that_there_is(
    old: str, wraps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is imported, so that it is not looked for in a package of the user's."""
    write_own(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    parser = Parser()
    parser.add_argument("--one", type=type[RewardSelection] if wraps == "%s" else dict)
    (tmp_path / "old.yaml").write_text(f"one: {wraps % old}\n")
    parser.add_argument("--config", action="config")
    with pytest.warns(FutureWarning, match=rf"^{old} is laser_pl\.{old} now"):
        found = parser.parse_args([f"--config={tmp_path / 'old.yaml'}"]).one
    assert found is RewardSelection if wraps == "%s" else found["class_path"] == f"laser_pl.{old}"


def test_a_run_that_is_looked_at_may_name_ours_by_their_old_names_and_no_package_of_that_name() -> None:
    refuse_code({"class_path": "callbacks.run_record.RunRecord"}, "the run")
    with pytest.raises(ConfigurationError, match=r"class_path is 'callbacks\.Bell', which is neither ours"):
        refuse_code({"class_path": "callbacks.Bell"}, "the run")


def test_nothing_in_the_repository_uses_the_old_name() -> None:
    files = [path for name in ("laser_pl", "callbacks", "experiments", "tests") for path in (ROOT / name).rglob("*")]
    texts = {path: path.read_text() for path in files if path.suffix in (".py", ".yaml", ".md") and path.is_file()}
    own = {path for path in texts if path.parent == Path(__file__).parent or path.name in ("test_rooms.py", "moved.py")}
    old = re.compile(r"(from|import) callbacks\b|class_path\W+callbacks\.")
    assert [path for path, text in texts.items() if path not in own and old.search(text)] == []
