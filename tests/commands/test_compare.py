"""Finished runs side by side: what is read, what is refused, what is written."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
import wandb
import yaml

from laser_pl.commands.compare import main
from laser_pl.report.charts import Lines
from laser_pl.report.comparison import compare
from laser_pl.report.comparison_figures import comparison_figures
from laser_pl.report.comparison_wandb import COLUMNS, _keys, table_rows
from laser_pl.report.records import read_records
from laser_pl.report.runs import by_strategy, read_run
from tests.offline_wandb import media_of, records_of
from tests.runs import Fit


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


def validated(folder: Path, *accuracies: float, name: str = "average") -> None:
    """Write what a run measured after its iterations."""
    lines = [f"{4 * (epoch + 1)},{epoch},{value}" for epoch, value in enumerate(accuracies)]
    (folder / "metrics.csv").write_text("\n".join([f"step,epoch,validation/accuracy/sampled/{name}", *lines, ""]))


def test_the_page_draws_means_over_seeds_with_their_intervals(tmp_path: Path) -> None:
    folders = two_strategies(tmp_path)
    for folder, accuracies in zip(folders, [(0.4, 0.5), (0.5, 0.6), (0.6, 0.7), *[(0.5, 0.8)] * 3], strict=False):
        validated(Path(folder), *accuracies)
    strategies = by_strategy([read_run(Path(folder)) for folder in folders])
    records = {name: [read_records(run.folder) for run in runs.values()] for name, runs in strategies.items()}
    curves, arms, costs = comparison_figures(compare(strategies, "plain"), records)
    (chart,) = curves.charts
    assert isinstance(chart, Lines)
    plain_band, plain, wide_band, wide = chart.series
    assert [x for x, _ in plain.points] == [1.0, 2.0]
    assert plain.points[0][1] == pytest.approx(sum(first_of(strategies["plain"])) / 3)
    half = 4.303 * stdev(first_of(strategies["plain"])) / math.sqrt(3)
    edges = plain_band.upper[0][1] - plain.points[0][1], plain.points[0][1] - plain_band.points[0][1]
    assert edges == (pytest.approx(half, rel=1e-3), pytest.approx(half, rel=1e-3))
    assert (plain.key, wide.key) == (plain_band.key, wide_band.key) == (0, 1)
    assert [list(map(float, row)) for row in arms.charts[0].values] == [[0.75, 0.25]] * 2  # type: ignore[union-attr]
    assert [chart.amounts for chart in costs.charts] == [[10.0, 20.0], [100.0, 120.0]]  # type: ignore[union-attr]


def first_of(runs: Mapping[int, Any]) -> list[float]:
    """What each run measured after its first iteration."""
    return [float((run.folder / "metrics.csv").read_text().splitlines()[1].split(",")[-1]) for run in runs.values()]


def test_the_page_shows_what_a_strategy_is_called_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And is written where it is asked for alone."""
    folders = [write_run(tmp_path / f"<img src=x>{seed}", seed, {"average": 0.5, "a</td>": 0.5}) for seed in (0, 1)]
    words = [*map(str, folders), "--out", str(tmp_path / "out")]
    main(words)
    assert not (tmp_path / "out" / "comparison.html").exists()
    main([*words, "--html"])
    assert "comparison.md, .csv, .html" in capsys.readouterr().out
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "<img" not in page
    assert "a&lt;/td&gt;" in page
    assert "No validation accuracy is recorded" in page
    assert "<script" not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_a_comparison_is_a_run_in_wandb_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written offline for real: the table, the curves' means and the page as it lies on disk."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    folders = two_strategies(tmp_path)
    for folder, accuracies in zip(folders, [(0.4, 0.5), (0.5, 0.6), (0.6, 0.7), *[(0.5, 0.8)] * 3], strict=False):
        validated(Path(folder), *accuracies, name="../words")
    words = [*folders, "--out", str(tmp_path / "out")]
    main(words)
    assert not (tmp_path / "out" / "wandb").exists()
    assert not (tmp_path / "out" / "comparison.html").exists()
    rows = main([*words, "--wandb", "laser"])
    wandb.teardown()  # waits until everything is on disk
    (offline,) = (tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb")
    assert capsys.readouterr().out.endswith(f"In W&B: {offline.parent}\n")

    records = list(records_of(offline))
    assert {(one.run.project, one.run.job_type) for one in records if one.HasField("run")} == {("laser", "comparison")}
    config = {item.key: json.loads(item.value_json) for one in records for item in one.run.config.update}
    assert config["strategies"] == {name: [f"{name}-{seed}" for seed in range(3)] for name in ("plain", "wide")}
    files, logged = offline.parent / "files", media_of(records)
    assert set(logged) == {"comparison", "comparison_page", "curves/_words_table"}
    table = json.loads((files / logged["comparison"]).read_text())
    assert table == {"columns": list(COLUMNS), "data": table_rows(rows)}
    plain, wide = (next(row for row in table["data"] if row[0] == name) for name in ("plain", "wide"))
    assert (plain[5:7], wide[5:7]) == ([None, None], [pytest.approx(0.2), pytest.approx(0.25)])
    assert (files / logged["comparison_page"]).read_text() == (tmp_path / "out/comparison.html").read_text()
    curve = json.loads((files / logged["curves/_words_table"]).read_text())
    middle = [sum(column) / 3 for column in zip((0.4, 0.5), (0.6, 0.7), (0.5, 0.8), strict=True)]
    assert [row for row in curve["data"] if row[1] == "plain"] == [
        [1, "plain", pytest.approx(middle[0])], [2, "plain", pytest.approx(middle[1])]
    ]  # fmt: skip


def test_categories_of_like_names_get_charts_of_their_own() -> None:
    assert _keys(["average", "a/b", "a b"]) == ["curves/average", "curves/a_b", "curves/a_b_2"]


def test_what_wandb_refuses_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own check of names, before anything is sent."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(SystemExit) as end:
        main([*two_strategies(tmp_path), "--out", str(tmp_path / "out"), "--wandb", "a/b"])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "W&B takes no run of the project 'a/b' of --wandb: " in told
    assert (tmp_path / "out" / "comparison.md").is_file()


def test_one_name_for_two_configurations_is_told_apart_by_what_differs(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "one" / "gap-0", 0, {"average": 0.5}),
        write_run(tmp_path / "two" / "gap-0", 0, {"average": 0.6}, alpha=3.0),
        write_run(tmp_path / "two" / "gap-1", 1, {"average": 0.7}, alpha=3.0),
    ]
    assert grouped(*folders) == {"gap (bandit.alpha 1.0)": [0], "gap (bandit.alpha 3.0)": [0, 1]}


def grouped(*folders: Path) -> dict[str, list[int]]:
    """Seeds by strategy."""
    return {name: list(runs) for name, runs in by_strategy([read_run(folder) for folder in folders]).items()}


def edited(folder: Path, **settings: Any) -> Path:
    """The run with other settings, ``model__weights__name="b"``."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, value in settings.items():
        *where, last = name.split("__")
        part = config
        for key in where:
            part = part.setdefault(key, {})
        part[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.parametrize(
    "setting",
    [
        "model__weights__name", "model__weights__config", "model__lora__start", "selection__context__class_path",
        "selection__reward_models__a__init_args__weights__name", "selection__reward_models__a__init_args__seed",
        "selection__reward_models__a__init_args__name", "selection__signal__init_args__share", "data__template__name",
        "data__split_seed_of_mine__seed", "ckpt_path", "optimizer__init_args__lr", "trainer__max_time",
    ],
)  # fmt: skip
def test_runs_that_differ_in_a_setting_are_no_seeds_of_one_strategy(tmp_path: Path, setting: str) -> None:
    one = edited(write_run(tmp_path / "x-0", 0, {"average": 0.5}), **{setting: "one"})
    other = edited(write_run(tmp_path / "x-1", 1, {"average": 0.6}), **{setting: "other"})
    label = ".".join(part for part in setting.split("__") if part not in ("init_args", "class_path")).split(".")
    said = label[-1] if setting.endswith("class_path") else ".".join(label[-2:])
    assert grouped(one, other) == {f"x ({said} one)": [0], f"x ({said} other)": [1]}


def test_what_says_where_a_run_lies_and_who_is_told_makes_no_other_strategy(tmp_path: Path) -> None:
    folders = [
        edited(
            write_run(tmp_path / f"x-{seed}", seed, {"average": 0.5}), runs_dir=f"r{seed}", quiet=bool(seed),
            trainer__logger=[{"class_path": "WandbLogger", "init_args": {"name": f"x-{seed}"}}],
            trainer__default_root_dir=f"r{seed}", keep_iterations=seed, selection__signal__init_args__seed=seed,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    assert grouped(*folders) == {"x": [0, 1]}


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (("x-0.1:0", "x-0.5:0"), ["x-0.1", "x-0.5"]),
        (("x-0.1:1", "x-0.5:5"), ["x-0.1", "x-0.5"]),
        (("x_0.1_3:3", "x_0.5_3:3"), ["x_0.1", "x_0.5"]),
        (("a01:1", "a02:2"), ["a01", "a02"]),
        (("lr1e-3:3", "lr1e-4:4"), ["lr1e-3", "lr1e-4"]),
        (("alpha-1:1", "alpha-2:1"), ["alpha-1", "alpha-2"]),
        (("gap-seed0:0", "paper-s0:0"), ["gap", "paper"]),
        (("7:7", "8:8"), ["7", "8"]),
        (("-0:0", "x-00:0"), ["-0", "x"]),
    ],
)
def test_of_a_name_only_the_seed_is_taken_away(tmp_path: Path, folders: tuple[str, ...], told: list[str]) -> None:
    paths = []
    for number, one in enumerate(folders):
        name, _, seed = one.partition(":")
        paths.append(write_run(tmp_path / name, int(seed), {"average": 0.5}, alpha=1.0 + number))
    assert list(grouped(*paths)) == told


def test_runs_that_were_numbered_as_their_name_was_taken_are_called_as_the_first(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name, seed, {"average": 0.5}) for seed, name in enumerate(("x", "x-2", "x-3"))]
    assert grouped(*paths) == {"x": [0, 1, 2]}


def test_names_say_up_to_three_settings_and_more_where_it_takes_them(tmp_path: Path) -> None:
    classes = ("LinUCB", "LinUCB", "UCB1")
    paths = [
        edited(write_run(tmp_path / str(place) / "x-0", 0, {"average": 0.5}, alpha=alpha),
               selection__bandit__class_path=f"laser_pl.bandits.{name}", model__beta=beta, model__path=f"{beta}/x")
        for place, (name, alpha, beta) in enumerate(zip(classes, (1.0, 2.0, 2.0), (0.1, 0.2, 0.3), strict=True))
    ]  # fmt: skip
    assert list(grouped(*paths)) == [
        "x (bandit.alpha 1.0, bandit LinUCB, model.beta 0.1)",
        "x (bandit.alpha 2.0, bandit LinUCB, model.beta 0.2)",
        "x (bandit.alpha 2.0, bandit UCB1, model.beta 0.3)",
    ]


def test_of_a_long_setting_the_end_is_said(tmp_path: Path) -> None:
    paths = [
        edited(write_run(tmp_path / name / "x-0", 0, {"average": 0.5}), model__path="p" * 99 + name) for name in "ab"
    ]
    assert list(grouped(*paths)) == [f"x (model.path ...{'p' * 39}{name})" for name in "ab"]


@pytest.mark.parametrize(
    ("values", "said"),
    [((["a", "b" * 50], ["c", "b" * 50]), ['...a", "' + "b" * 35 + "...", '...c", "' + "b" * 35 + "..."]),
     ((True, "true"), ["true", '"true"']), ((None, "null"), ["null", '"null"']), ((1, 1.0), ["1", "1.0"])],
)  # fmt: skip
def test_values_that_read_alike_are_told_apart(tmp_path: Path, values: tuple[Any, Any], said: list[str]) -> None:
    runs = [write_run(tmp_path / str(place) / "x-0", 0, {"average": 0.5}) for place in (0, 1)]
    found = grouped(*(edited(run, model__x=value) for run, value in zip(runs, values, strict=True)))
    assert list(found) == [f"x (model.x {text})" for text in said]


def test_a_run_may_be_named_as_the_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = two_strategies(tmp_path)
    out = ["--out", str(tmp_path / "out")]
    for baseline in ("wide", "wide-1", str(tmp_path / "wide-2"), str(tmp_path / "wide-2") + "/"):
        plain, _ = main([*folders, "--baseline", baseline, *out])
        assert plain.difference == pytest.approx(-0.2)
    twice = [
        str(write_run(tmp_path / place / "x-0", 0, {"average": 0.5}, alpha))
        for place, alpha in (("a", 1.0), ("b", 2.0))
    ]
    capsys.readouterr()
    line = refused([*twice, "--baseline", "x-0"], capsys)
    assert line == (
        "laser_pl: --baseline is 'x-0', which is the name of runs of several strategies: x (bandit.alpha 1.0), x"
        " (bandit.alpha 2.0). Give one of these names, or the run's folder."
    )
    assert main([*twice, "--baseline", twice[1], *out])[1].paired == 0


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("model__matcher", "matcher one and other"),
        ("model__evaluation", "evaluation one and other"),
        ("trainer__limit_test_batches", "limit_test_batches one and other"),
    ],
)
def test_accuracies_of_other_kinds_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, what: str
) -> None:
    one = edited(write_run(tmp_path / "a-0", 0, {"average": 0.5}), **{setting: "one"})
    other = edited(write_run(tmp_path / "b-0", 0, {"average": 0.5}), **{setting: "other"})
    line = refused([str(one), str(other), "--out", str(tmp_path / "out")], capsys)
    assert line == (
        f"laser_pl: The runs '{one}' and '{other}' were not measured alike: {what}. Compare them nevertheless with"
        " --different-budgets."
    )


def test_other_test_prompts_that_were_split_off_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (
        edited(write_run(tmp_path / f"a-{seed}", seed, {"average": 0.5}), data__test=None, data__split_seed=seed)
        for seed in (0, 1)
    )
    assert "were not measured alike: test prompts {" in refused([str(one), str(other)], capsys)


def test_strategies_without_forwards_and_categories_of_some_seeds(tmp_path: Path) -> None:
    """A strategy that asks nobody has no ratio to itself, and is no times another's; shares still add up to one."""
    some = [
        write_run(tmp_path / "x-0", 0, {"average": 0.5}, shares={"sums": {"a": 1.0}}),
        write_run(tmp_path / "x-1", 1, {"average": 0.5}, shares={"sums": {"b": 1.0}, "words": {"a": 0.25, "b": 0.75}}),
    ]
    none = write_run(tmp_path / "none-0", 0, {"average": 0.5}, alpha=2.0)
    summary = json.loads((none / "summary.json").read_text())
    (none / "summary.json").write_text(json.dumps({**summary, "reward_model_forwards": {}, "arm_share": {}}))
    x, nothing = main([*map(str, [*some, none]), "--out", str(tmp_path / "out")])
    assert x.shares == {"sums": {"a": 0.5, "b": 0.5}, "words": {"a": 0.25, "b": 0.75}}
    assert nothing.forwards == 0
    _, nothing = main([*map(str, [*some, none]), "--baseline", "none", "--out", str(tmp_path / "out")])
    assert math.isnan(nothing.forwards)


def test_seeds_that_only_one_has_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_run(tmp_path / f"base-{s}", s, {"average": 0.5}) for s in (0, 1)]
    folders += [write_run(tmp_path / f"more-{s}", s, {"average": 0.6}, alpha=2.0) for s in (1, 2)]
    folders += [write_run(tmp_path / "other-7", 7, {"average": 0.6}, alpha=0.5)]
    rows = main([*map(str, folders), "--out", str(tmp_path / "out")])
    assert [row.paired for row in rows] == [0, 1, 0]
    shown = " ".join(capsys.readouterr().out.split())
    assert "Paired over fewer seeds than the means: more (1)." in shown
    assert "No seed in common with base, hence not compared: other." in shown
    main([*map(str, folders[:3]), "--out", str(tmp_path / "out")])  # one seed of its own, which both have
    assert "Paired over fewer seeds than the means: more (1)." in " ".join(capsys.readouterr().out.split())


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
    assert page.count("\\[red\\]x\\|y\\[/red\\]&lt;b&gt;\\$") == 2


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
    assert (tmp_path / "out" / "comparison.csv").exists()
