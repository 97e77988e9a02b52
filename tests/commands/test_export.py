"""The pairs of a run, out of the framework."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Value, load_dataset, load_from_disk

from laser_pl.commands.cli import LaserCLI
from laser_pl.commands.export import main as export
from tests.runs import Fit


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two iterations, whose chunks of rollouts end within batches."""
    return [
        "--trainer.max_epochs=2", "--data.prompts_per_iteration=14", "--data.rollout_batch_size=5",
        "--selection.granularity=prompt", "--selection.pairs.min_margin=3.0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    return fit(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def copy(run: LaserCLI, tmp_path: Path) -> Path:
    """The run's folder, to be damaged."""
    shutil.copytree(run.folder.path, tmp_path / "run")
    return tmp_path / "run"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_pair_is_written(run: LaserCLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against what the training loop recorded elsewhere: counts and arms by step, and the sample in judged.jsonl."""
    out = tmp_path / "pairs.jsonl"
    written = export([str(run.folder.path), "--out", str(out)])
    assert capsys.readouterr().out == f"Written: {written} pairs to {out}\n"
    pairs, decisions = lines_of(out), lines_of(run.folder.selection)
    assert len(pairs) == written == sum(decision["pairs"] for decision in decisions) > 0
    assert any(decision["pairs"] == 0 for decision in decisions)  # which must not shift what comes after
    by_step = [(d["iteration"], d["step"], d["category"], d["arm"]) for d in decisions for _ in range(d["pairs"])]
    assert [(p["iteration"], p["step"], p["category"], p["arm"]) for p in pairs] == by_step
    sample = lines_of(run.folder.judged)
    assert len(sample) == 2 * 14  # so small a run is kept whole
    expected = [
        {
            "prompt": line["prompt"], "chosen": line["responses"][chosen], "rejected": line["responses"][rejected],
            "arm": line["arm"], "iteration": line["iteration"], "step": line["step"], "category": line["category"],
            "chosen_score": line["scores"][line["arm"]][chosen],
            "rejected_score": line["scores"][line["arm"]][rejected],
            "truncated": not (line["finished"][chosen] and line["finished"][rejected]),
        }
        for line in sample
        for chosen, rejected in line["pairs"]
    ]  # fmt: skip
    assert pairs == expected
    assert all(pair["chosen_score"] > pair["rejected_score"] for pair in pairs)


def test_other_trainers_can_read_it(run: LaserCLI, tmp_path: Path) -> None:
    """TRL's preference type in its standard format: three columns of text; the others stand beside them."""
    export([str(run.folder.path), "--out", str(tmp_path / "pairs.jsonl")])
    export([str(run.folder.path), "--out", str(tmp_path / "pairs")])
    read = load_dataset(
        "json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    saved = load_from_disk(str(tmp_path / "pairs"))
    assert read.to_list() == saved.to_list() == lines_of(tmp_path / "pairs.jsonl")
    for data in (read, saved):
        assert all(data.features[name] == Value("string") for name in ("prompt", "chosen", "rejected", "arm"))
        assert data.features["iteration"] == Value("int64")


def test_chats_are_written_on_demand(run: LaserCLI, copy: Path, tmp_path: Path) -> None:
    """The row's own prompt as a user's turn, behind the system message that the run's template has set."""
    out = str(tmp_path / "pairs.jsonl")
    export([str(run.folder.path), "--out", out])
    texts = lines_of(tmp_path / "pairs.jsonl")
    export([str(run.folder.path), "--out", out, "--messages"])
    chats = lines_of(tmp_path / "pairs.jsonl")
    user = [{"role": "user", "content": texts[0]["prompt"]}]  # nothing stands around the quickstart's
    assert chats[0]["prompt"] == user
    for chat, text in zip(chats, texts, strict=True):
        assert [turn["content"] for turn in chat["prompt"]] == [text["prompt"]]
        for name in ("chosen", "rejected"):
            assert chat[name] == [{"role": "assistant", "content": text[name]}]
    config = (copy / "config.yaml").read_text()
    template = "class_path: laser_pl.data.templates.Plain"
    assert template in config
    chat_template = template.replace("Plain", "Chat\n    init_args:\n      system: Be brief.\n    x: x")
    (copy / "config.yaml").write_text(re.sub(rf"{template}\n.*?(?=\n  \w)", chat_template, config, flags=re.DOTALL))
    export([str(copy), "--out", out, "--messages"])
    assert lines_of(tmp_path / "pairs.jsonl")[0]["prompt"] == [{"role": "system", "content": "Be brief."}, *user]


def test_pairs_with_a_response_that_was_cut_can_be_left_out(copy: Path, tmp_path: Path) -> None:
    (path,) = copy.glob("rollouts/iteration-000/chunk-00000.parquet")
    stored = pq.read_table(path)
    rows = [{**row, "finished": [False] * len(row["finished"])} for row in stored.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=stored.schema), path)
    export([str(copy), "--out", str(tmp_path / "all.jsonl")])
    written = export([str(copy), "--out", str(tmp_path / "whole.jsonl"), "--without_truncated"])
    every, whole = lines_of(tmp_path / "all.jsonl"), lines_of(tmp_path / "whole.jsonl")
    assert whole == [pair for pair in every if not pair["truncated"]]
    assert 0 < written == len(whole) < len(every)


def test_rollouts_of_an_older_version_hold_no_messages(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in copy.glob("rollouts/*/*.parquet"):
        pq.write_table(pq.read_table(path).drop(["prompt"]), path)
    out = ["--out", str(tmp_path / "pairs.jsonl")]
    with pytest.raises(SystemExit):
        export([str(copy), *out, "--messages"])
    assert "an older version's, which kept no messages. Leave --messages out." in capsys.readouterr().err
    assert export([str(copy), *out]) > 0


def test_a_run_that_goes_on_is_exported_so_far(copy: Path, tmp_path: Path) -> None:
    lines = (copy / "pairs.jsonl").read_text().splitlines(keepends=True)
    (copy / "pairs.jsonl").write_text("".join(lines[:6]) + lines[6][:20])
    whole = sum(len(json.loads(line)["pairs"]) for line in lines[:6])
    assert export([str(copy), "--out", str(tmp_path / "pairs.jsonl")]) == whole


def test_rollouts_that_are_gone_are_told(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy / "rollouts" / "iteration-000")
    export([str(copy), "--out", str(tmp_path / "pairs.jsonl")])
    assert {pair["iteration"] for pair in lines_of(tmp_path / "pairs.jsonl")} == {1}
    assert capsys.readouterr().err == "Without the pairs of 1 iterations, whose rollouts are gone.\n"


@pytest.mark.parametrize("own", ["pairs.jsonl", "judged.jsonl", "rollouts/mine.jsonl", "../run/pairs.jsonl"])
def test_the_runs_own_record_is_no_place_for_an_export(
    copy: Path, capsys: pytest.CaptureFixture[str], own: str
) -> None:
    before = (copy / "pairs.jsonl").read_bytes()
    with pytest.raises(SystemExit) as end:
        export([str(copy), "--out", str(copy / own)])
    assert end.value.code == 2
    assert "is what the run itself writes. Give --out another name." in capsys.readouterr().err
    assert (copy / "pairs.jsonl").read_bytes() == before
    assert not (copy / "rollouts" / "mine.jsonl").exists()
    assert export([str(copy), "--out", str(copy / "preferences.jsonl")]) > 0


@pytest.mark.parametrize("name", ["kept.jsonl", "new"])
def test_where_no_pair_is_left_nothing_is_replaced(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for path in copy.glob("rollouts/*/*.parquet"):
        stored = pq.read_table(path)
        rows = [{**row, "finished": [False] * len(row["finished"])} for row in stored.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=stored.schema), path)
    (tmp_path / "kept.jsonl").write_text("kept")
    with pytest.raises(SystemExit) as end:
        export([str(copy), "--out", str(tmp_path / name), "--without_truncated"])
    assert end.value.code == 2
    assert "of every pair of" in capsys.readouterr().err
    assert (tmp_path / "kept.jsonl").read_text() == "kept"
    assert not (tmp_path / "new").exists()


def swap_two_lines(folder: Path) -> None:
    first, second, *rest = (folder / "pairs.jsonl").read_text().splitlines(keepends=True)
    (folder / "pairs.jsonl").write_text("".join([second, first, *rest]))


@pytest.mark.parametrize(
    ("damage", "out", "sentence"),
    [
        (lambda run: shutil.rmtree(run), "o.jsonl", "'<run>' is no run's folder: there is no config.yaml in it."),
        (
            lambda run: (run / "pairs.jsonl").unlink(),
            "o.jsonl",
            "export: '<run>' has no pairs.jsonl: it has not trained yet, or an older version wrote it, which kept no"
            " more pairs than the sample in judged.jsonl.",
        ),
        (
            lambda run: shutil.rmtree(run / "rollouts"),
            "o.jsonl",
            "export: no pair of '<run>' can be written: the rollouts of its 2 iterations are gone.",
        ),
        (
            lambda run: (run / "pairs.jsonl").write_text(""),
            "o.jsonl",
            "export: no pair of '<run>' can be written: none has been made yet.",
        ),
        (
            lambda run: (run / "pairs.jsonl").write_text("[]\n"),
            "o.jsonl",
            "<run>/pairs.jsonl, line 1: this is no line that a run wrote.",
        ),
        (
            swap_two_lines,
            "o.jsonl",
            "export: the rollouts in '<run>/rollouts/iteration-000' are not those that pairs.jsonl is about. Put them"
            " back, or export another run.",
        ),
        (lambda run: None, "run", "export: '<run>' is there already. Give --out another name."),
        (
            lambda run: run.parent.joinpath("file").write_text(""),
            "run/../file/o.jsonl",
            "Nothing can be written to '<run>/../file/o.jsonl': File exists. Set --out.",
        ),
    ],
)
def test_what_cannot_be_exported_is_said(
    copy: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], out: str, sentence: str
) -> None:
    damage(copy)
    with pytest.raises(SystemExit) as end:
        export([str(copy), "--out", str(copy.parent / out)])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"laser_pl: {sentence.replace('<run>', str(copy))}\n"
    assert not (copy.parent / "o.jsonl").exists()
