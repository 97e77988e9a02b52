"""Finished runs side by side: what is read, what is refused, what is written."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from laser_pl.cli import LaserCLI
from laser_pl.compare import main

Fit = Callable[..., LaserCLI]
HEADER = b"\x89PNG\r\n\x1a\n"


def write_run(
    folder: Path,
    seed: int,
    accuracy: dict[str, float] | None,
    alpha: float = 1.0,
    iterations: int = 2,
    seconds: float = 10.0,
    forwards: int = 100,
    shares: dict[str, dict[str, float]] | None = None,
) -> Path:
    """A run's folder with what a comparison reads."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "seed_everything": seed,
        "name": folder.name,
        "runs_dir": str(folder.parent),
        "model": {"seed": seed},
        "data": {"train": "t.jsonl", "test": "e.jsonl", "batch_size": 4, "rollouts": {"n": 3}, "seed": seed},
        "selection": {"bandit": {"alpha": alpha}, "pairs": {"init_args": {"per_prompt": 2}}, "seed": seed},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    summary = {
        "accuracy": {"before": None, "after": accuracy},
        "arm_share": shares or {"sums": {"a": 0.75, "b": 0.25}},
        "seconds": {"total": seconds},
        "reward_model_forwards": {"a": forwards - 40, "b": 40},
        "iterations": iterations,
        "steps": 8 + seed,  # it depends on the seed where batches have one category
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def two_strategies(tmp_path: Path) -> list[str]:
    """Three seeds each; the second is better by 0.1, 0.2 and 0.3, twice as slow and asks a fifth more."""
    folders = []
    for seed in range(3):
        after = {"sums": 0.5, "words": 0.3, "average": 0.4}
        folders.append(write_run(tmp_path / f"plain-{seed}", seed, after))
        better = {name: value + 0.1 * (seed + 1) for name, value in after.items()}
        folders.append(write_run(tmp_path / f"wide-{seed}", seed, better, alpha=3.0, seconds=20.0, forwards=120))
    return [str(folder) for folder in folders]


def test_a_comparison_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = main([*two_strategies(tmp_path), "--out", str(tmp_path / "out")])
    assert [row.name for row in rows] == ["plain", "wide"]
    plain, wide = rows
    assert plain.seeds == wide.seeds == [0, 1, 2]
    half = 4.303 * 0.1 / math.sqrt(3)  # Student's t at 0.975 with 2 degrees of freedom; a deviation of 0.1
    assert plain.accuracy["average"] == (pytest.approx(0.4), pytest.approx(0.0, abs=1e-9))
    assert wide.accuracy["average"] == (pytest.approx(0.6), pytest.approx(half, rel=1e-3))
    assert wide.accuracy["words"][0] == pytest.approx(0.5)
    assert wide.difference == pytest.approx(0.2)
    assert wide.p == pytest.approx(2 / 2**3)
    assert math.isnan(plain.difference)
    assert (wide.seconds, wide.forwards) == (pytest.approx(2.0), pytest.approx(1.2))
    assert wide.shares == {"sums": {"a": 0.75, "b": 0.25}}
    shown = capsys.readouterr().out
    for text in ("0.600 ± 0.248", "+0.200", "0.250", "2.00x", "1.20x", "a 75%, b 25%", "sign-flip"):
        assert text in shown


def test_files_hold_the_same(tmp_path: Path) -> None:
    main([*two_strategies(tmp_path), "--out", str(tmp_path / "out"), "--baseline", "wide"])
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| plain | 3 | 0.500 ± 0.000 | 0.300 ± 0.000 | 0.400 ± 0.000 | -0.200 | 0.250 | 0.50x | 0.83x |" in page
    assert "| wide | sums | a 75%, b 25% |" in page
    with (tmp_path / "out" / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {(line["strategy"], line["category"]) for line in lines} == {
        (strategy, category) for strategy in ("plain", "wide") for category in ("sums", "words", "average")
    }
    assert float(lines[0]["difference"]) == pytest.approx(-0.2)
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(HEADER)


def test_one_name_for_two_configurations_stays_two_rows(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "one" / "gap-0", 0, {"average": 0.5}),
        write_run(tmp_path / "two" / "gap-0", 0, {"average": 0.6}, alpha=3.0),
        write_run(tmp_path / "two" / "gap-1", 1, {"average": 0.7}, alpha=3.0),
    ]
    rows = main([*map(str, folders), "--out", str(tmp_path / "out")])
    assert [row.name for row in rows] == ["gap", "gap (2)"]
    assert [row.seeds for row in rows] == [[0], [0, 1]]


def test_seeds_that_only_one_has_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_run(tmp_path / f"base-{s}", s, {"average": 0.5}) for s in (0, 1)]
    folders += [write_run(tmp_path / f"more-{s}", s, {"average": 0.6}, alpha=2.0) for s in (1, 2)]
    folders += [write_run(tmp_path / "other-7", 7, {"average": 0.6}, alpha=0.5)]
    rows = main([*map(str, folders), "--out", str(tmp_path / "out")])
    assert [row.paired for row in rows] == [0, 1, 0]
    shown = " ".join(capsys.readouterr().out.split())
    assert "Paired over fewer seeds than it has: more (1)." in shown
    assert "No seed in common with base, hence not compared: other." in shown


def test_runs_without_answers_are_compared_in_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_run(tmp_path / f"{name}-0", 0, None, alpha) for name, alpha in (("a", 1.0), ("b", 2.0))]
    rows = main([*map(str, folders), "--out", str(tmp_path / "out")])
    assert all(row.accuracy == {} for row in rows)
    assert "a 75%, b 25%" in capsys.readouterr().out
    assert len((tmp_path / "out" / "comparison.csv").read_text().splitlines()) == 3


def test_names_make_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = {"[red]x|y[/red]<b>$": {"a|<i>": 1.0}}
    folder = write_run(tmp_path / "run-0", 0, {"[red]x|y[/red]<b>$": 0.5, "average": 0.5}, shares=odd)
    main([str(folder), "--out", str(tmp_path / "out")])
    assert "[red]x|y[/red]<b>$" in capsys.readouterr().out
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "<b>" not in page
    assert "<i>" not in page
    assert page.count("\\[red\\]x\\|y\\[/red\\]&lt;b&gt;$") == 2


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


def test_different_budgets_are_refused_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a-0", 0, {"average": 0.5})
    b = write_run(tmp_path / "b-0", 0, {"average": 0.5}, alpha=2.0, iterations=3)
    line = refused([str(a), str(b), "--out", str(tmp_path / "out")], capsys)
    assert line == (
        f"laser_pl: The runs '{a}' and '{b}' had different budgets: iterations 2 and 3. Compare them nevertheless with"
        " --different-budgets."
    )
    assert not (tmp_path / "out").exists()
    assert len(main([str(a), str(b), "--different-budgets", "--out", str(tmp_path / "out")])) == 2


def test_what_is_no_finished_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = tmp_path / "nothing"
    assert refused([str(nothing)], capsys) == (
        f"laser_pl: '{nothing}' is no run's folder: there is no config.yaml in it."
    )
    run = write_run(tmp_path / "run-0", 0, {"average": 0.5})
    whole = (run / "summary.json").read_text()
    for text in ("", whole[:40], "[]", "{}", '{"accuracy": 3}'):
        (run / "summary.json").write_text(text)
        assert refused([str(run)], capsys).startswith(f"laser_pl: The run '{run}' cannot be read (")
    (run / "summary.json").unlink()
    assert "is not finished. Go on with it by --resume" in refused([str(run)], capsys)


def test_the_same_seed_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (write_run(tmp_path / name, 4, {"average": 0.5}) for name in ("a-4", "b-4"))
    line = refused([str(a), str(b)], capsys)
    assert f"'{a}' and '{b}' have the same configuration and the same seed, 4" in line


def test_an_unknown_baseline_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused([*two_strategies(tmp_path), "--baseline", "paper"], capsys)
    assert line == "laser_pl: --baseline is 'paper'; the strategies are plain, wide."


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run-0", 0, {"average": 0.5})
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        main([str(run), "--out", str(tmp_path / "file")])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"laser_pl: Nothing can be written to '{tmp_path / 'file'}': ")


def test_no_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the following arguments are required: RUN" in refused([], capsys)


def test_real_runs_by_the_command_line(fit: Fit, tmp_path: Path) -> None:
    """Two seeds of two strategies, through a process of its own, which imports no torch."""
    folders = []
    for alpha in (0.1, 1.0):
        for seed in (1, 2):
            run = fit(tmp_path, f"--selection.bandit.alpha={alpha}", f"--seed_everything={seed}",
                      f"--name=alpha{alpha}x-{seed}")  # fmt: skip
            folders.append(str(run.folder.path))
    code = "import sys; from laser_pl.__main__ import run; run(); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", *folders, "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "alpha0.1x" in done.stdout
    assert (tmp_path / "out" / "comparison.png").exists()
