"""The benchmarks of memory and of failures, in short forms."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("untouched_results")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A page with a section of somebody else's."""
    path = tmp_path / "RESULTS.md"
    path.write_text("# Benchmarks\n\n<!-- other -->\nstays \\1\n<!-- /other -->\n")
    return path


def cells(text: str) -> list[list[str]]:
    """The table's rows without its head."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    return rows[2:]


# -- results -----------------------------------------------------------------------------------------------------------


def test_section_is_written_in_place(benchmarks: Callable[[str], ModuleType], results: Path) -> None:
    write = benchmarks("results").write_section
    other = results.read_text()
    write(results, "mine", "one \\1\n")
    assert results.read_text() == f"{other}\n<!-- mine -->\none \\1\n<!-- /mine -->\n"
    write(results, "last", "end")
    write(results, "mine", "two\n\nlines")
    mine, last = "<!-- mine -->\ntwo\n\nlines\n<!-- /mine -->\n", "<!-- last -->\nend\n<!-- /last -->\n"
    assert results.read_text() == f"{other}\n{mine}\n{last}"


def test_page_is_begun_where_there_is_none(benchmarks: Callable[[str], ModuleType], tmp_path: Path) -> None:
    benchmarks("results").write_section(tmp_path / "new.md", "mine", "text")
    assert (tmp_path / "new.md").read_text() == "# Benchmarks\n\n<!-- mine -->\ntext\n<!-- /mine -->\n"


# -- memory ------------------------------------------------------------------------------------------------------------


def test_pool_memory(
    benchmarks: Callable[[str], ModuleType],
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, whose peaks say nothing; but the fits are real, and so are their loads."""
    script = benchmarks("pool_memory")
    monkeypatch.setattr(script, "LAYERS", 2)
    monkeypatch.setattr(script, "in_fresh_process", lambda call, argument: call(argument))
    peaks = iter([100, 110, 102, 204])
    monkeypatch.setattr(script, "resident", lambda field: 0 if field == "VmRSS" else next(peaks) * 2**20)
    words = ["--arms", "1", "2", "--parameters", "2e4", "--saved", "bfloat16", "--steps", "4"]
    script.main([*words, "--results", str(results)])
    page = results.read_text()
    assert "stays \\1" in page
    assert page.split("<!-- pool_memory -->\n")[1].split("<!--")[0].strip() in capsys.readouterr().out
    assert [row[:8] for row in cells(page)] == [
        ["bfloat16", "1", "100 MiB", "110 MiB", "1.000", "1.10", "1", "1"],
        ["bfloat16", "2", "102 MiB", "204 MiB", "1.020", "2.00", "4", "2"],
    ]


@pytest.mark.parametrize("parameters", [2e4, 1e6])
def test_models_are_as_large_as_they_should_be(
    benchmarks: Callable[[str], ModuleType], tmp_path: Path, parameters: float
) -> None:
    made = benchmarks("pool_memory").make_models(tmp_path, 1, parameters, "bfloat16")
    assert parameters <= made["parameters"] < 2 * parameters
    assert made["bytes"] == pytest.approx(4 * made["parameters"], rel=0.01)  # as float32, with rotary buffers


# -- faults ------------------------------------------------------------------------------------------------------------


def test_faults(benchmarks: Callable[[str], ModuleType], results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = benchmarks("faults")
    here = os.getcwd()
    words = ["--rate", "0.5", "--iterations", "1", "--steps", "4", "--results", str(results)]
    assert script.main(words) == 0
    assert os.getcwd() == here
    page = results.read_text()
    assert page.split("<!-- faults -->\n")[1].split("<!--")[0].strip() in capsys.readouterr().out
    rows = cells(page)
    assert len(rows) == 5 * 5
    for row in rows:
        assert row[2] == row[3] == row[4]
        assert row[5] == row[6] == row[7]
    assert any(int(row[2]) for row in rows)
    assert len({row[1] for row in rows if int(row[5])}) >= 3
    assert page.count("0 of 25 rows differ") == 2


def outcome(script: ModuleType, **changes: Any) -> Any:
    """Two responses of one reward model without a label, rightly counted."""
    right = {"sorter": {"nan": 2}}
    parts = {"injected": right, "summed_up": right, "summed_steps": right, "calls": Counter(nan=1), "steps": 1}
    return script.Outcome(**{**parts, "checked": Counter(), "invalid": Counter(), "steps_without_pairs": 0, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"summed_up": {"sorter": {"nan": 1}}},
        {"summed_steps": {}},
        {"summed_steps": {"sorter": {"nan": 2, "none": 1}}},
        {"invalid": Counter({"metrics": 1})},
    ],
)
def test_what_is_wrong_is_found(benchmarks: Callable[[str], ModuleType], changes: dict[str, Any]) -> None:
    script = benchmarks("faults")
    assert outcome(script).holds
    assert not outcome(script, **changes).holds


def test_numbers_that_are_not_finite_are_found_wherever_they_are(benchmarks: Callable[[str], ModuleType]) -> None:
    import torch

    script = benchmarks("faults")
    found = outcome(script)
    state = {"a": [1.0, (torch.tensor([[0.0, float("inf")]]),)], "b": {"c": float("nan"), "d": "text", "e": True}}
    found.look_at("state", script.numbers(state))
    assert (found.checked["state"], found.invalid["state"]) == (4, 2)
