"""The tutorial's commands print what its page shows, its notebook is its page, and what it says comes true."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from laser_pl.commands.cli import main
from laser_pl.first_config.command import arguments
from laser_pl.run.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "laser_pl/docs/pages/tutorial.md").read_text(encoding="utf-8")
NOTEBOOK = json.loads((ROOT / "experiments/tutorial.ipynb").read_text(encoding="utf-8"))
NUMBER = re.compile(r"([+-]?\d[\d,]*(?:\.\d+)?(?: [KMG]iB)?)")
COUNTS_MAY_DIFFER = re.compile(r"python -m laser_pl (fit|explain|compare|export) ")
"""How many responses tied, or who was asked how often, follows from the last bits of what a processor computes."""


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """``experiments/tutorial.py``."""
    spec = importlib.util.spec_from_file_location("tutorial_script", ROOT / "experiments/tutorial.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@dataclass(frozen=True)
class Ran:
    """The notebook, run once.

    Attributes:
        folder: Where.
        printed: By each of its code cells.
    """

    folder: Path
    printed: list[str]


@pytest.fixture(scope="module")
def ran(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("tutorial")
    return Ran(folder, script.run(NOTEBOOK, folder))


def test_the_notebook_is_the_page(script: ModuleType) -> None:
    """``python experiments/tutorial.py`` writes it."""
    assert script.notebook(list(script.cells_of(PAGE))) == NOTEBOOK
    kinds = [cell.kind for cell in script.cells_of(PAGE)]
    assert {kind: kinds.count(kind) for kind in ("sh", "python", "file")} == {"sh": 7, "python": 2, "file": 2}


def test_the_notebook_is_one(script: ModuleType) -> None:
    """What Jupyter's format 4.5 asks for; links of the manual lead to its files from there."""
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        code = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source", *code}
    text = "".join(line for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown" for line in cell["source"])
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert len([link for link in links if link]) > 5
    assert [link for link in links if link and not (ROOT / "experiments" / link).is_file()] == []


def test_what_is_printed_is_what_the_page_shows(script: ModuleType, ran: Ran) -> None:
    """Word by word; counts to the unit, accuracies and rewards within 0.15, bytes within 40 % but for a process's."""
    shown = [cell for cell in script.cells_of(PAGE) if cell.kind != "prose"]
    assert len(ran.printed) == 1 + len(shown)  # the first changes the folder
    for cell, printed in zip(shown, ran.printed[1:], strict=True):
        assert_alike(script.elided(printed), cell.output, exact=not COUNTS_MAY_DIFFER.search(cell.source))


OF_A_PROCESS = 100 * 2**20
"""Bytes from which Python and its libraries are in a figure, which grow with what else the process has done."""


def plain(text: str) -> list[str]:
    """Words and numbers in turn, without the lines of tables, and shares only as such."""
    text = " ".join(re.sub(r"[^\x00-\x7f…≤±]", " ", text).split())
    return NUMBER.split(re.sub(r"(?:\w+ \d+%,? ?)+", "SHARES ", text))


def assert_alike(printed: str, shown: str, exact: bool) -> None:
    found, wanted = plain(printed), plain(shown)
    assert found[::2] == wanted[::2]
    for ours, theirs in zip(found[1::2], wanted[1::2], strict=True):
        if theirs.endswith("iB"):
            if size(theirs) < OF_A_PROCESS:
                assert size(ours) == pytest.approx(size(theirs), rel=0.4), (ours, theirs)
            else:
                assert size(ours) >= OF_A_PROCESS, (ours, theirs)
        elif "." in theirs:
            assert value(ours) == pytest.approx(value(theirs), abs=0.15), (ours, theirs)
        elif exact:
            assert ours == theirs


def size(number: str) -> float:
    """Bytes."""
    return value(number) * 1024 ** " KMG".index(number[-3])


def value(number: str) -> float:
    return float(number.split()[0].replace(",", ""))


def test_a_page_that_shows_something_else_is_noticed() -> None:
    """The comparison above can fail."""
    for printed, shown in (
        ("40 rows", "41 rows"), ("average 0.41", "average 0.61"), ("is written", "was written"), ("1 MiB", "2 MiB"),
        ("1 MiB", "1 GiB"), ("a 40%, b 60%", "nobody"),
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            assert_alike(printed, shown, exact=True)
    assert_alike("│ a 40%, b 60% │ 0.52 │ 600 MiB", "│ b 55%, a 45% │ 0.47 │ 500 MiB", exact=True)
    assert_alike("7 pairs", "9 pairs", exact=False)


def test_what_the_page_says_of_the_outcome_holds(ran: Ran) -> None:
    """Training helped, choosing helped more than chance, and the bandit found who knows what."""
    runs = {name: RunFolder(ran.folder / "runs" / f"{name}-0") for name in ("trusted", "default", "random")}
    summaries: dict[str, Any] = {name: json.loads(run.summary.read_text()) for name, run in runs.items()}
    after = {name: one["accuracy"]["after"]["average"] for name, one in summaries.items()}
    assert min(after["trusted"], after["default"]) > summaries["trusted"]["accuracy"]["before"]["average"] + 0.08
    assert min(after["trusted"], after["default"]) > after["random"] + 0.03
    shares = summaries["trusted"]["arm_share"]
    assert {category: max(arms, key=arms.get) for category, arms in shares.items()} == {
        "addition": "numbers", "comparing": "numbers", "reversing": "mirror", "sorting": "sorter"
    }  # fmt: skip
    first = json.loads(RunFolder(ran.folder / "runs/first").summary.read_text())
    assert first["steps"] == 4
    assert summaries["trusted"]["steps"] == 40  # of which the page explains the last
    (used,) = (printed for printed in ran.printed if printed.startswith("without the adapter"))
    without, with_it = map(float, re.findall(r"0\.\d+", used))
    assert with_it > without + 0.08
    for name in ("runs/first/report.html", "comparison/comparison.html", "pairs.jsonl", "runs/trusted-0/adapter"):
        assert (ran.folder / name).exists()


def test_what_is_said_for_a_card_is_taken(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the commands' parsers, with the files that the stand-in left; and the extra that is installed is there."""
    monkeypatch.chdir(ran.folder)
    (block,) = re.findall(r"^```sh\n(.+?)^```$", PAGE.partition("## On a card")[2], re.MULTILINE | re.DOTALL)
    init, *others = [shlex.split(line)[3:] for line in block.replace("\\\n", " ").splitlines()]
    assert arguments().parse_args(init[1:]).out == Path("my.yaml")
    assert [words[0] for words in others] == ["plan", "fit"]
    for words in others:
        with pytest.raises(SystemExit) as end:
            main(["fit", *words[1:], "--config", "card24.yaml", "--print_config"])
        told = capsys.readouterr()
        assert end.value.code == 0, told.err
        assert "quantization: nf4" in told.out
    (extra,) = set(re.findall(r"\.\[(\w+)\]", PAGE))
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
