"""Responses of the policy of the iteration before: whose they are, and runs that are interrupted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laser_pl.commands.cli import LaserCLI
from laser_pl.data.rollout_store import RolloutStore, Row
from laser_pl.run.folder import RunFolder
from laser_pl.run.state import digest, run_state
from tests.runs import Fit, decisions_of

STALE = "--data.staleness=1"
STEPS = 4  # per iteration


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Three iterations of four steps, each in two chunks."""
    return [
        "--checkpoint_every=2", "--trainer.max_epochs=3", "--optimizer.lr=0.002",
        "--data.rollout_batch_size=8", "--data.rollouts.n=4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    """The uninterrupted run."""
    return fit(tmp_path_factory.mktemp("whole"), STALE)


def rows_of(run: LaserCLI, iteration: int) -> list[Row]:
    store = RolloutStore(run.folder.rollouts(iteration))
    assert not list(store.folder.glob("ahead-*"))
    return [row for chunk in (0, 1) for row in store.read(chunk)]


def assert_same(one: RunFolder, other: RunFolder) -> None:
    """To the last bit."""
    ours, theirs = run_state(one), run_state(other)
    assert {part: digest(ours[part]) for part in ours} == {part: digest(theirs[part]) for part in theirs}


def test_responses_are_those_of_the_policy_one_iteration_before(whole: LaserCLI, fit: Fit, tmp_path: Path) -> None:
    """Only the responses: contexts and reference are of the policy that is trained on them."""
    still = fit(tmp_path / "still", "--optimizer.lr=0")
    for iteration, same in ((0, True), (1, True), (2, False)):
        ours, theirs = rows_of(whole, iteration), rows_of(still, iteration)
        assert [row["prompt_id"] for row in ours] == [row["prompt_id"] for row in theirs]
        assert ([row["tokens"] for row in ours] == [row["tokens"] for row in theirs]) is same
    assert [row["context"] for row in rows_of(whole, 1)] != [row["context"] for row in rows_of(still, 1)]
    for iteration in range(3):
        first = next(one for one in decisions_of(whole) if one["iteration"] == iteration and one["pairs"])
        assert first["dpo"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize(
    ("hook", "after"),
    [
        ("on_train_batch_start", 1),  # before there is any checkpoint
        ("on_train_batch_end", STEPS + 2),  # within an iteration, from a checkpoint of a policy that moved on
        ("on_validation_start", 1),  # between an iteration's last step and its checkpoint
        ("on_train_epoch_start", 1),  # at an iteration's end
    ],
)
def test_resumed_equals_uninterrupted(
    whole: LaserCLI, fit: Fit, tmp_path: Path, plug: Callable[..., str], hook: str, after: int
) -> None:
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path, STALE, plug(hook, after))
    assert_same(fit(tmp_path, STALE, "--resume").folder, whole.folder)


@pytest.mark.parametrize(
    ("method", "calls"), [("write_ahead", 1), ("write_ahead", 3), ("write", 3), ("discard_ahead", 3)]
)
def test_interrupted_during_rollouts(
    whole: LaserCLI, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, calls: int
) -> None:
    """Sampled and not taken up, in part; taken up and not removed."""
    original, called = getattr(RolloutStore, method), []

    def until(store: RolloutStore, *args: Any) -> None:
        if len(called) == calls:
            raise RuntimeError("the plug was pulled")
        called.append(args)
        original(store, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RolloutStore, method, until)
        with pytest.raises(RuntimeError, match="the plug was pulled"):
            fit(tmp_path, STALE)
    run = fit(tmp_path, STALE, "--resume")
    assert rows_of(run, 1) == rows_of(whole, 1)
    assert_same(run.folder, whole.folder)


def test_what_was_not_sampled_ahead_is_sampled_late_and_said(
    whole: LaserCLI, fit: Fit, tmp_path: Path, plug: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path, STALE, plug("on_train_batch_end", 2))
    ahead = sorted((tmp_path / "runs/small/rollouts/iteration-001").iterdir())
    assert [path.name for path in ahead] == ["ahead-00000.parquet", "ahead-00001.parquet"]
    ahead[1].unlink()
    with caplog.at_level(logging.WARNING):
        run = fit(tmp_path, STALE, "--resume")
    assert "1 of 2 chunks of iteration 1 were not sampled while the one before it was trained" in caplog.text
    ours, theirs = rows_of(run, 1), rows_of(whole, 1)
    assert [one == other for one, other in zip(ours, theirs, strict=True)] == [True] * 8 + [False] * 8


def test_other_prompts_than_were_sampled_ahead_are_refused(
    fit: Fit, tmp_path: Path, plug: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path, STALE, plug("on_train_epoch_start", 1))
    folder = tmp_path / "runs/small/rollouts/iteration-002"
    (folder / "ahead-00000.parquet").replace(folder / "ahead-00001.parquet")
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, STALE, "--resume")
    assert end.value.code == 2
    assert "iteration-002/ahead-00001.parquet holds other prompts" in capsys.readouterr().err


def test_nothing_is_sampled_for_an_iteration_that_never_comes(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, STALE, "--trainer.max_epochs=-1", f"--trainer.max_steps={2 * STEPS}")
    assert sorted(path.name for path in (run.folder.path / "rollouts").iterdir()) == ["iteration-000", "iteration-001"]


def test_an_engine_in_this_process_is_said_to_gain_nothing(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fit(tmp_path, STALE, "--trainer.max_epochs=1")
    assert "TransformersEngine cannot sample beside training" in caplog.text


def test_only_one_iteration_is_sampled_ahead(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, "--data.staleness=2")
    assert end.value.code == 2
    assert "staleness must be 0 or 1, got 2" in capsys.readouterr().err
