"""A disk that is full, a place that cannot be written, files that pile up."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from laser_pl.callbacks.run_checkpoint import RunCheckpoint
from laser_pl.data.rollout_store import RolloutStore
from laser_pl.run.files import writing
from laser_pl.run.folder import RunFolder
from laser_pl.run.state import metrics_without_clock
from tests.runs import Fit


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Three iterations of two batches."""
    return [
        "--trainer.max_epochs=3", "--data.prompts_per_iteration=8", "--data.rollouts.n=4", "--checkpoint_every=1",
        "--trainer.limit_val_batches=0",
    ]  # fmt: skip


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to let files grow, as it does when a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("owner", "method", "limit", "file"),
    [
        (RunCheckpoint, "save", 10_000, "checkpoints/last.ckpt"),
        (RolloutStore, "write", 1_000, "rollouts/iteration-001/chunk-00000.parquet"),
    ],
)
def test_a_full_disk_is_told_in_a_sentence_and_what_was_saved_is_intact(
    fit: Fit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    owner: type,
    method: str,
    limit: int,
    file: str,
) -> None:
    whole = fit(tmp_path / "whole")
    write = getattr(owner, method)
    calls = []

    def limited(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            with no_file_larger_than(limit):
                write(*args, **kwargs)
        else:
            write(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, limited)
        with pytest.raises(SystemExit) as end:
            fit(tmp_path)
    folder = RunFolder(tmp_path / "runs" / "small")
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"laser_pl: Cannot write '{folder.path / file}': File too large. What was saved is intact: make room and go on"
        " with --resume."
    )
    assert torch.load(folder.checkpoint, weights_only=True)["global_step"] > 0
    assert list(folder.path.rglob("*.tmp")) == []
    resumed = fit(tmp_path, "--resume")
    assert resumed.summary["accuracy"] == whole.summary["accuracy"]
    assert metrics_without_clock(resumed.folder) == metrics_without_clock(whole.folder)


def test_a_place_that_cannot_be_written_is_named(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here a folder is where a file should be; permissions do not stop the tests' user."""
    write = RolloutStore.write

    def write_and_block(store: RolloutStore, *args: object) -> None:
        write(store, *args)  # type: ignore[arg-type]
        (tmp_path / "runs" / "small" / "selection.jsonl").mkdir(exist_ok=True)

    monkeypatch.setattr(RolloutStore, "write", write_and_block)
    with pytest.raises(SystemExit) as end:
        fit(tmp_path)
    assert end.value.code == 2
    assert f"laser_pl: Cannot write '{tmp_path}/runs/small/selection.jsonl': Is a directory." in capsys.readouterr().err


def test_a_failed_write_leaves_the_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="File too large"), no_file_larger_than(10), writing(path) as file:
        file.write(b"new" * 10_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("keep", "left"), [(None, [0, 1, 2]), (2, [1, 2]), (1, [2])])
def test_rollouts_of_old_iterations_are_removed_if_asked(
    fit: Fit, tmp_path: Path, keep: int | None, left: list[int]
) -> None:
    run = fit(tmp_path, *([] if keep is None else [f"--keep_iterations={keep}"]))
    found = sorted(path.name for path in (run.folder.path / "rollouts").iterdir())
    assert found == [f"iteration-{number:03d}" for number in left]


def test_what_is_needed_to_go_on_is_never_removed(fit: Fit, tmp_path: Path, plug: Callable[..., str]) -> None:
    """Interrupted just when an iteration has begun, the run goes on from the end of the one before."""
    whole = fit(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path, "--keep_iterations=1", plug("on_train_epoch_start", 2))
    resumed = fit(tmp_path, "--keep_iterations=1", "--resume")
    assert resumed.summary["accuracy"] == whole.summary["accuracy"]
    assert metrics_without_clock(resumed.folder) == metrics_without_clock(whole.folder)
