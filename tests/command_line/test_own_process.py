"""The command as a process of its own: who reads what it prints, and where it finds modules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from laser_pl import __version__

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
AS_MODULE = [sys.executable, "-m", "laser_pl"]
# What pip writes to bin/laser_pl, in whose place the interpreter finds its folder.
AS_SCRIPT = [
    sys.executable,
    "-c",
    "import sys; sys.path[0] = '/nowhere'; sys.argv[0] = 'laser_pl'; from laser_pl.__main__ import run; run()",
]


def start(command: list[str], folder: Path, *flags: str, **streams: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    python, *rest = command
    return subprocess.Popen(
        [python, *flags, *rest], cwd=folder, env=environment, text=True, **streams  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.mark.parametrize("command", [AS_MODULE, AS_SCRIPT], ids=["module", "script"])
def test_it_says_its_version(command: list[str], tmp_path: Path) -> None:
    process = start([*command, "--version"], tmp_path, stdout=subprocess.PIPE)
    assert process.communicate()[0] == f"laser_pl {__version__}\n"
    assert process.returncode == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_nobody_has_to_read(stream: str, tmp_path: Path) -> None:
    """As behind `| head`: the reader goes before the first line is written."""
    words = ["--help"] if stream == "stdout" else ["compare", "nothing"]
    process = start([*AS_MODULE, *words], tmp_path, **{stream: subprocess.PIPE})
    reader = process.stdout or process.stderr
    assert reader is not None
    reader.close()
    assert process.wait() == (0 if stream == "stdout" else 2)


PRINTS = """
import sys
from laser_pl.command_line.unread import heedless_of_readers
sys.stdout = heedless_of_readers(sys.stdout)
for _ in range(9999):
    print("ö" * 99)
print("done", file=sys.stderr)
"""


def test_what_is_read_is_whole_and_the_rest_goes_on_into_nothing(tmp_path: Path) -> None:
    process = start([sys.executable, "-c", PRINTS], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as stdout, process.stderr as stderr:
        assert [stdout.readline() for _ in range(3)] == ["ö" * 99 + "\n"] * 3
        stdout.close()
        assert stderr.read() == "done\n"
    assert process.wait() == 0


MODULES = "import laser_pl.__main__, sys; sys.argv[1:] = ['--version']; laser_pl.__main__.run(); import of_the_user"


@pytest.mark.parametrize(("flags", "found"), [([], True), (["-P"], sys.version_info < (3, 11))], ids=["", "safe path"])
def test_modules_of_the_folder_are_found(flags: list[str], found: bool, tmp_path: Path) -> None:
    (tmp_path / "of_the_user.py").touch()
    if flags and found:  # Python 3.10 knows no such flag
        return
    code = f"import sys; sys.path[:] = [p for p in sys.path if p not in ('', {str(tmp_path)!r})]; {MODULES}"
    process = start([sys.executable, "-c", code], tmp_path, *flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    told = process.communicate()[1]
    assert (process.returncode == 0) == found, told


SHORT_NAMES = """
import importlib, inspect, pkgutil
import laser_pl, laser_pl.commands.cli
from laser_pl.command_line.known_classes import own_classes
from laser_pl.bandits.base import Bandit
from laser_pl.data.templates import Template
from laser_pl.feedback.normalizers import RewardNormalizer
from laser_pl.feedback.signals import Signal
from laser_pl.generation import RolloutEngine
from laser_pl.metrics.grader import Grader
from laser_pl.objectives import Objective
from laser_pl.rewards.base import RewardModel

def named(below):
    found = [one for cls in below.__subclasses__() for one in [cls, *named(cls)]]
    return [one for one in found if one.__module__.startswith("laser_pl.") and not inspect.isabstract(one)]

bases = [Bandit, Template, RewardNormalizer, Signal, RolloutEngine, Grader, Objective, RewardModel]
before = {base: {*named(base)} for base in bases}
for module in pkgutil.walk_packages(laser_pl.__path__, "laser_pl."):
    module.name.endswith("__main__") or importlib.import_module(module.name)
late = [one.__name__ for base in bases for one in named(base) if one not in before[base]]
print(sum(map(len, before.values())) > 40, [name for name in late if not name.startswith("_")])
"""


def test_the_command_line_knows_every_class_by_its_short_name(tmp_path: Path) -> None:
    process = start([sys.executable, "-c", SHORT_NAMES], tmp_path, stdout=subprocess.PIPE)
    assert process.communicate()[0] == "True []\n"
