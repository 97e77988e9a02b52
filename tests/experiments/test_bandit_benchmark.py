"""The benchmark of the bandit, in a short form and without the library that only it needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"


@pytest.fixture
def script() -> Iterator[ModuleType]:
    before = list(sys.path)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("bandit")
    sys.path[:] = before
    for name in ("bandit", "results"):
        sys.modules.pop(name, None)


def test_bandit(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--peers",
        "explicit",
        "rank-one",
        "--sizes",
        "24",
        "12",
        "--steps",
        "20",
        "--timed",
        "3",
        "--repeats",
        "2",
        "--saved-after",
        "30",
    ]
    words += ["--scale-sizes", "8", "16", "--scale-arms", "1", "3", "--scale-steps", "4", "40"]
    assert script.main([*words, "--results", str(tmp_path / "RESULTS.md")]) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.split("<!-- bandit -->\n")[1].split("<!--")[0].strip() in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    ratios = [row for row in rows if len(row) == 7][2:]
    assert [row[1] for row in ratios] == ["explicit", "rank-one", "dense A and b"]
    assert [row[5] for row in ratios] == [">= 5000", ">= 20", ">= 10"]
    assert [row[6] for row in ratios] == ["no"] * 3  # nothing to gain where everything is tiny
    growth = [row for row in rows if len(row) == 3][2:]
    assert [row[0].split(",")[0] for row in growth] == ["d", "K", "t", "t"]
    assert all(torch.isfinite(torch.tensor(float(row[2]))) for row in growth)


def test_a_missing_library_is_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "find_spec", lambda name: None)
    assert script.main([]) == 2
    assert "mabwiser is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [3, 50])
def test_a_made_up_state_has_the_shapes_of_a_real_one(script: ModuleType, steps: int) -> None:
    real = script.Ours(6, 2)
    script.learn(real, *script.stream(steps, 6), 2)
    shapes = [
        {
            arm: {name: None if value is None else value.shape for name, value in model.items()}
            for arm, model in ours.bandit.state_dict()["models"].items()
        }
        for ours in (real, script.made_up(6, 2, steps))
    ]
    assert shapes[0] == shapes[1]


def test_exponent_of_a_power(script: ModuleType) -> None:
    assert script.exponent([1, 2, 8], [3.0, 12.0, 192.0]) == pytest.approx(2)
