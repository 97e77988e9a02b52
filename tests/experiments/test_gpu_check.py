"""The check for a GPU, in its small form on a CPU: every row works, and one that does not costs itself alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "gpu"
Rows = dict[str, dict[str, Any]]
IN_4_BITS = ["rollouts nf4", "step nf4", "iteration nf4"]

# Rows for the process that works them off: one that is well, one that raises, one that ends it, one that never ends.
ODD = """
import os, time
from card import Finding, LeftOut

def well(card, sizes): return Finding("all is well", True, {"answer": 42.0})
def raises(card, sizes): raise ValueError("first line\\nsecond | line")
def leaves(card, sizes): raise LeftOut("nobody is here")
def ends(card, sizes): os._exit(7)
def hangs(card, sizes): time.sleep(600)
"""


@pytest.fixture(scope="module")
def check() -> Iterator[ModuleType]:
    """The script as a module, as it imports those beside it, and nothing of it is left behind."""
    before, known = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    import check

    yield check
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if str(FOLDER.parent) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def rows_of(folder: Path) -> Rows:
    """What was written for the one device that there is."""
    (device,) = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    assert device["name"] == "CPU"
    found: Rows = device["rows"]
    return found


@pytest.fixture(scope="module")
def whole(check: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small form; the machine may be busy, so the rows' own limits do not hold."""
    folder = tmp_path_factory.mktemp("gpu")
    words = ["--small", "--device=cpu", "--minutes=30", "--limit=600", "--skip", *IN_4_BITS]
    assert check.main([*words, f"--out={folder}"]) == 0
    return folder


def test_every_row_works(check: ModuleType, whole: Path) -> None:
    rows = rows_of(whole)
    assert list(rows) == [row.name for row in check.ROWS if row.name not in IN_4_BITS]
    assert {name: row["text"] for name, row in rows.items() if row["holds"] not in {"yes", ""}} == {}


def test_rows_in_4_bits_are_the_others_with_another_base(check: ModuleType) -> None:
    """That a base in 4 bits trains is the row ``nf4``."""
    import fast

    for name in IN_4_BITS:
        what = name.removesuffix(" nf4")
        whole, quantised = (getattr(fast, f"{what}_{kind}") for kind in ("bf16", "nf4"))
        assert (quantised.func, quantised.args, quantised.keywords["quantization"]) == (whole, (), "nf4")


def test_what_a_row_found_is_there_in_numbers(whole: Path) -> None:
    rows = rows_of(whole)
    assert rows["log-probabilities"]["numbers"]["float32/logprobs"] < 1e-5
    assert rows["chi-squared"]["numbers"]["p"] > 1e-4
    assert rows["out of memory"]["numbers"]["halved"] >= 1
    assert rows["pool"]["numbers"]["evictions"] == 4
    assert rows["iteration bf16"]["numbers"]["first_dpo"] == pytest.approx(0.6931, abs=1e-3)
    assert rows["decoding"]["numbers"]["launches"] > 100
    assert {"products", "ours", "cross_entropy in chunks"} <= set(rows["head"]["numbers"])


def test_the_page_says_that_it_was_no_card(check: ModuleType, whole: Path) -> None:
    page = (whole / "RESULTS.md").read_text(encoding="utf-8")
    assert "**Not run on a card.**" in page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + len(check.ROWS) - len(IN_4_BITS)
    assert {line.count("|") for line in lines} == {7}


def test_what_was_measured_is_kept(check: ModuleType, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows_of(whole)
    assert check.main(["--small", "--device=cpu", "--only", "right", "peaks", f"--out={whole}"]) == 0
    assert rows_of(whole) == before
    kept = [row.name for row in check.ROWS if row.part == "right" or row.name == "peaks"]
    assert capsys.readouterr().out.count("(kept)") == len(kept)


# -- rows that are not as they should be -------------------------------------------------------------------------------


@pytest.fixture
def odd(check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Rows]]:
    """Check rows of ``ODD`` instead of all that there are: ``odd(["well", "hangs"], *words)``."""
    (tmp_path / "odd.py").write_text(ODD, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(names: list[str], *words: str) -> tuple[int, Rows]:
        rows = [check.Row("right", name, f"odd:{name}", 1, 600, "Is it well?") for name in names]
        for module in (check, sys.modules["rows"]):
            monkeypatch.setattr(module, "ROWS", rows)
        code = check.main(["--small", "--device=cpu", f"--out={tmp_path / 'out'}", *words])
        return code, rows_of(tmp_path / "out")

    return run


def test_a_row_that_fails_costs_itself_and_runs_again(odd: Callable[..., tuple[int, Rows]], tmp_path: Path) -> None:
    """One raises, one is left out, one hangs, one takes its process along: the others are worked off, and kept."""
    names = ["raises", "leaves", "hangs", "well", "ends"]
    code, rows = odd(names, "--limit=9")
    assert code == 1
    assert {name: (row["holds"], row["text"]) for name, row in rows.items() if name != "raises"} == {
        "leaves": ("left out", "nobody is here"),
        "hangs": ("error", "killed after 9 s"),
        "well": ("yes", "all is well"),
        "ends": ("error", "its process ended with code 7; the log says more"),
    }
    assert rows["raises"]["text"].startswith("ValueError: first line second | line (odd.py, line ")
    assert rows["well"]["numbers"] == {"answer": 42.0}
    assert "Traceback" in (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
    assert "second / line" in (tmp_path / "out" / "RESULTS.md").read_text(encoding="utf-8")

    (tmp_path / "odd.py").write_text(ODD.replace('raise ValueError("first', 'raise KeyError("first'), encoding="utf-8")
    code, again = odd(["raises", "well"])
    assert code == 1
    assert again["raises"]["text"].startswith("KeyError")
    assert again["well"] == rows["well"]  # its very seconds
    assert odd(["well"], "--again")[1]["well"] != rows["well"]


def test_what_there_is_no_time_for_is_not_reached(odd: Callable[..., tuple[int, Rows]]) -> None:
    code, rows = odd(["well", "leaves"], "--minutes=0.001")
    assert code == 0
    assert rows["well"]["text"] == "0 s were left, and it takes 1"
    assert {row["holds"] for row in rows.values()} == {"not reached"}


@pytest.mark.parametrize(
    ("only", "skip", "found"),
    [
        (["starts"], [], ["imports", "quickstart"]),
        (["starts", "peaks"], ["quickstart"], ["imports", "peaks"]),
        (["greedy"], ["right"], []),
    ],
)
def test_parts_and_rows_are_chosen_by_name(
    check: ModuleType, only: list[str], skip: list[str], found: list[str]
) -> None:
    assert [row.name for row in check.chosen(only, skip)] == found


def test_what_cannot_be_asked_is_said_in_a_sentence(check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (
            ["--small", "--only", "fats"],
            "There is no part or row 'fats'. There are: starts, right, fast, profile, imports",
        ),
        (["--device=cpu"], "There is no card here, and on a CPU the full form would take days: add --small."),
    ):
        with pytest.raises(SystemExit) as end:
            check.main(words)
        assert end.value.code == 2
        assert sentence in capsys.readouterr().err


def test_all_of_it_fits_the_time_that_it_is_given(check: ModuleType) -> None:
    """By what an H200 took, or an estimate; one call does not reach all, the next goes on."""
    assert sum(row.cost for row in check.ROWS) <= 15 * 60
    for part, limit in check.PARTS.items():
        assert sum(row.cost for row in check.ROWS if row.part == part) <= limit
    assert len({row.name for row in check.ROWS}) == len(check.ROWS)
    assert all(row.cost <= row.limit for row in check.ROWS)


def test_one_more_run_lies_in_a_wider_interval_than_the_mean(check: ModuleType) -> None:
    """The study's own row is found, and the interval is that of Student's t for a new observation."""
    from scipy.stats import t
    from starts import STUDY, interval_of_one_run

    study = "## The quickstart's world\n\n| **default** | nothing | 4 | 0.700 ± 0.100 | 94% |"
    deviation = 0.1 * 4**0.5 / t.ppf(0.975, 3)
    half = t.ppf(0.975, 3) * deviation * (1 + 1 / 4) ** 0.5
    assert interval_of_one_run(study) == pytest.approx((0.7 - half, 0.7 + half))
    low, high = interval_of_one_run(STUDY.read_text(encoding="utf-8"))
    assert 0.5 < low < 0.735 < high < 0.8
    with pytest.raises(ValueError, match="no row 'default'"):
        interval_of_one_run("## The quickstart's world\n")
