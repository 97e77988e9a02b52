"""What the README and the manual show does what they say of it. That all of it is accepted: ``test_manual.py``."""

from __future__ import annotations

import glob
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from laser_pl.commands.cli import LaserCLI
from laser_pl.commands.compare import main as compare
from laser_pl.commands.explain import main as explain
from laser_pl.commands.export import main as export
from laser_pl.report.command import main as report

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORTS, COMPARING, PAPER = (
    (ROOT / "laser_pl/docs/pages" / f"{page}.md").read_text(encoding="utf-8")
    for page in ("reports", "comparing", "paper")
)
LOOKS = re.findall(r"^python -m laser_pl (report|explain|export) (.+)$", REPORTS + COMPARING, re.MULTILINE)
(COMPARISON,) = re.findall(r"^python -m laser_pl compare (runs/gap.+)$", README, re.MULTILINE)


# -- commands --------------------------------------------------------------------------------------------------------


def test_runs_are_compared_as_shown(
    fit: Callable[..., LaserCLI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for preset in ("gap", "paper"):
        fit(tmp_path, f"--config={ROOT}/experiments/presets/{preset}.yaml", f"--name={preset}-0")
    monkeypatch.chdir(tmp_path)
    words = [path for word in shlex.split(COMPARISON) for path in (sorted(glob.glob(word)) or [word])]
    assert [row.name for row in compare(words)] == ["gap", "paper"]
    for ending in ("md", "csv"):
        assert (tmp_path / "comparison" / f"comparison.{ending}").is_file()


def test_the_loop_over_alpha_works_as_shown(
    fit: Callable[..., LaserCLI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell says what it would run; two of those runs, cut down, are compared by the command below it."""
    (loop,) = re.findall(r"^for alpha.*?^done$", COMPARING, re.MULTILINE | re.DOTALL)
    (comparison,) = re.findall(r"^python -m laser_pl compare (runs/alpha-.+)$", COMPARING, re.MULTILINE)
    told = subprocess.run(
        ["bash", "-c", f'python() {{ echo "$*"; }}\n{loop}'], capture_output=True, text=True, check=True
    )
    commands = [shlex.split(line) for line in told.stdout.splitlines()]
    assert len({tuple(command) for command in commands}) == len(commands) == 5 * 3
    assert all(
        command[:5] == shlex.split("-m laser_pl fit --config experiments/quickstart.yaml") for command in commands
    )
    for command in (commands[0], commands[-6]):  # alpha 0.1 and 1.0, with the first seed
        fit(tmp_path, *command[5:])
    monkeypatch.chdir(tmp_path)
    words = [path for word in shlex.split(comparison) for path in (sorted(glob.glob(word)) or [word])]
    assert {row.name for row in compare(words)} == {"alpha-0.1", "alpha-1.0"}


def test_a_run_is_looked_at_as_shown(
    fit: Callable[..., LaserCLI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tmp_path, "--name=quickstart")
    monkeypatch.chdir(tmp_path)
    for command, words in LOOKS:
        # The run here has four steps.
        args = [re.sub(r"^120$", "3", word) for word in shlex.split(words, comments=True)]
        {"report": report, "explain": explain, "export": export}[command](args)
    assert (tmp_path / "runs/quickstart/report.html").is_file()
    assert (tmp_path / "pairs.jsonl").is_file()


def test_paper_to_code_names_what_is_there() -> None:
    """Files of the library, presets and tests; and the class that is named with a file."""
    named = re.findall(r"`([\w/]+\.(?:py|yaml))(?:: (\w+))?`", PAPER)
    assert len(named) > 15
    folders = [ROOT, *(ROOT / name for name in ("laser_pl", "experiments", "tests"))]
    for name, member in named:
        found = [folder / name for folder in folders if (folder / name).is_file()]
        assert len(found) == 1, name
        assert not member or f"class {member}" in found[0].read_text(encoding="utf-8"), f"{name}: {member}"


def test_every_file_that_is_named_is_there() -> None:
    """By its path in the repository or in a room; what a run makes is not in it."""
    pages = [ROOT / "README.md", *ROOT.glob("experiments/**/*.md"), *(ROOT / "laser_pl/docs/pages").glob("*.md")]
    named = {
        (page, name)
        for page in pages
        for name in re.findall(
            r"`(\w[\w.-]*/[\w./-]*\.(?:py|yaml|md|sh|png|jsonl?))`", page.read_text(encoding="utf-8")
        )
        if not name.startswith(("runs/", "adapter/"))
    }
    assert len(named) > 50
    for page, name in named:
        folders = (ROOT, ROOT / "laser_pl", ROOT / "experiments", ROOT / "tests", page.parent)
        assert any((folder / name).is_file() for folder in folders), f"{page.name} names {name}"
