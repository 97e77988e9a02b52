"""A few cases of everything that the nightly ``fuzz.py`` gives, and that it sees what it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laser_pl.errors import ConfigurationError

NAMES = ["rows of data sets", "answers", "replies of reward servers", "configuration overlays"]
CASES = dict(zip(NAMES, (150, 150, 150, 12), strict=True))


@pytest.fixture(scope="module")
def fuzz(benchmarks: Callable[[str], ModuleType]) -> ModuleType:
    return benchmarks("fuzz")


def part_of(fuzz: ModuleType, name: str) -> Any:
    (part,) = (part for part in fuzz.PARTS if part.name == name)
    return part


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_our_own_errors_comes_out(fuzz: ModuleType, name: str, tmp_path: Path) -> None:
    part = part_of(fuzz, name)

    @settings(max_examples=CASES[name], suppress_health_check=list(HealthCheck))
    @given(part.cases)
    def hold(case: Any) -> None:
        part.check(case, tmp_path)

    hold()


def test_every_part_is_tried(fuzz: ModuleType) -> None:
    assert [part.name for part in fuzz.PARTS] == NAMES
    assert sum(part.share for part in fuzz.PARTS) == pytest.approx(1)


def test_many_cases_are_read_to_the_end_and_many_are_refused(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would be tried but the first thing that can be wrong."""
    seen: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        call = getattr(fuzz, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            seen[name] += 1
            try:
                return call(*args, **kwargs)
            except ConfigurationError as error:
                seen[str(error).partition(":")[2][:20]] += 1
                raise

        return counting

    for name in ("prompts_from", "fit_to_length", "encode"):
        monkeypatch.setattr(fuzz, name, counted(name))
    fuzz.run(part_of(fuzz, NAMES[0]), 300, 0)
    assert seen["prompts_from"] >= 300
    assert seen["encode"] >= 30
    assert len(seen) >= 13  # ten different complaints or more


def test_what_comes_out_is_counted_and_shown(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def brittle(case: int, folder: Path) -> None:
        if case > 5:
            raise ZeroDivisionError("by nothing")

    parts = [
        fuzz.Part("sound", st.integers(), lambda case, folder: None, 0.5),
        fuzz.Part("brittle", st.integers(0, 100), brittle, 0.5),
    ]
    monkeypatch.setattr(fuzz, "PARTS", parts)
    results = tmp_path / "RESULTS.md"
    assert fuzz.main(["--cases", "40", "--parts", "0", "--results", str(results)]) == 0
    assert fuzz.main(["--cases", "40", "--parts", "0", "1", "--results", str(results)]) == 1
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in results.read_text().splitlines() if "|" in line
    ]
    counts = {row[0]: row[1:3] for row in rows[2:]}
    assert counts["sound"] == ["20", "0"]
    assert int(counts["brittle"][0]) == 20
    assert 0 < int(counts["brittle"][1]) == int(counts["all"][1])
    assert "brittle: ZeroDivisionError at test_fuzz.py" in capsys.readouterr().out
