"""An interrupted run, continued, ends bit for bit where the uninterrupted one does."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from laser_pl.command_line.changed_settings import tell_of_changes
from laser_pl.commands.cli import LaserCLI
from laser_pl.data.rollout_store import RolloutStore
from laser_pl.report.page import accuracy_rows
from laser_pl.report.records import read_records
from laser_pl.run.folder import RunFolder
from laser_pl.run.state import run_state
from tests.runs import Fit

STEPS = 4  # per iteration
TEST_PROMPTS = Path(__file__).resolve().parents[2] / "experiments" / "quickstart" / "prompts" / "test.jsonl"
OTHER_PARTS = [
    "--selection.granularity=prompt",
    "--selection.signal=laser_pl.feedback.signals.Gap",
    "--selection.normalizer=laser_pl.feedback.normalizers.PooledQuantiles",
    "--selection.bandit=laser_pl.bandits.RoundRobin",
    "--selection.agreement_probe=3",
    "--trainer.accumulate_grad_batches=2",
]


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two iterations of four steps, with randomness wherever there can be any."""
    return [
        "--checkpoint_every=2", "--trainer.max_epochs=2", "--model.lora.dropout=0.1",
        "--data.prompts_per_iteration=16", "--data.rollout_batch_size=8", "--data.rollouts.n=4",
        "--lr_scheduler=torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size=3", "--lr_scheduler.gamma=0.5",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> dict[str, LaserCLI]:
    """The uninterrupted runs."""
    return {
        name: fit(tmp_path_factory.mktemp(f"whole_{name}"), *parts)
        for name, parts in (("default", []), ("other", OTHER_PARTS))
    }


@pytest.fixture
def interrupt(fit: Fit, tmp_path: Path, plug: Callable[..., str]) -> Callable[..., None]:
    """Begin a run that ends when a hook is called once more than ``after`` times: ``interrupt(hook, after, *args)``."""

    def begin(hook: str, after: int, *args: str) -> None:
        with pytest.raises(RuntimeError, match="the plug was pulled"):
            fit(tmp_path, *args, plug(hook, after))

    return begin


@pytest.fixture
def finish(fit: Fit, tmp_path: Path) -> Fit:
    """Resume that run to its end: ``finish(*args)``."""

    def resume(*args: str) -> LaserCLI:
        run = fit(tmp_path, *args, "--resume")
        assert [path.name for path in (tmp_path / "runs").iterdir()] == ["small"]
        return run

    return resume


def assert_same(one: object, other: object, where: str = "") -> None:
    """Bitwise, down to the last tensor."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where  # type: ignore[call-overload]
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")  # type: ignore[index]
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where  # type: ignore[arg-type]
        for index, (mine, its) in enumerate(zip(one, other, strict=True)):  # type: ignore[call-overload]
            assert_same(mine, its, f"{where}/{index}")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), where  # type: ignore[arg-type]
    else:
        assert one == other, where


@pytest.mark.parametrize(
    ("hook", "after"),
    [
        ("on_train_batch_start", 1),  # before there is any checkpoint
        ("on_train_batch_end", STEPS + 1),  # just when the checkpoint is due
        ("on_validation_start", 0),  # between an iteration's last step and its checkpoint
        ("on_train_epoch_start", 1),  # at an iteration's end: its checkpoint is there, the next rollouts too
        ("on_test_start", 1),  # trained, not yet measured
    ],
)
def test_resumed_equals_uninterrupted(
    whole: dict[str, LaserCLI], interrupt: Callable[..., None], finish: Fit, hook: str, after: int
) -> None:
    interrupt(hook, after)
    assert_same(run_state(finish().folder), run_state(whole["default"].folder))


@pytest.mark.parametrize(
    ("signum", "hook", "after", "step"),
    [
        # the batch is finished and saved, though no checkpoint was due
        (signal.SIGINT, "on_train_batch_start", 2, 3),
        # at an iteration's end, after validation
        (signal.SIGTERM, "on_train_batch_end", STEPS - 1, STEPS),
    ],
)
def test_a_signal_lets_it_finish_and_save(
    whole: dict[str, LaserCLI],
    fit: Fit,
    finish: Fit,
    tmp_path: Path,
    plug: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    signum: signal.Signals,
    hook: str,
    after: int,
    step: int,
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, plug(hook, after, signum))
    assert end.value.code == 128 + signum
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"laser_pl: Interrupted by {signum.name}. Go on with: python -m laser_pl fit --config=")
    folder = RunFolder(tmp_path / "runs" / "small")
    assert told.endswith(f" --resume {folder.path}")
    assert not folder.summary.exists()
    assert torch.load(folder.checkpoint, weights_only=True)["global_step"] == step
    assert_same(run_state(finish().folder), run_state(whole["default"].folder))


def test_a_signal_to_a_run_that_goes_on_lets_it_finish_the_batch_too(
    whole: dict[str, LaserCLI],
    fit: Fit,
    finish: Fit,
    interrupt: Callable[..., None],
    tmp_path: Path,
    plug: Callable[..., str],
) -> None:
    interrupt("on_train_batch_end", 2)  # within an iteration; saved after two batches
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, "--resume", plug("on_train_batch_start", 1, signal.SIGUSR1))  # in the fourth
    assert end.value.code == 128 + signal.SIGUSR1
    assert torch.load(tmp_path / "runs/small/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    assert_same(run_state(finish().folder), run_state(whole["default"].folder))


def test_a_signal_outside_of_training_ends_it_at_once(
    fit: Fit, tmp_path: Path, plug: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, plug("on_test_batch_start", 0, signal.SIGTERM))
    assert end.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err.endswith(f" --resume {tmp_path / 'runs' / 'small'}\n")
    assert not (tmp_path / "runs" / "small" / "rollouts").exists()


def test_nobody_waits_long_for_a_step(
    fit: Fit, tmp_path: Path, plug: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that takes longer than the patience is given up; what was saved before it stays."""
    monkeypatch.setattr("laser_pl.runtime.interruption.PATIENCE", 0.2)
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, plug("on_train_batch_start", 2, signal.SIGTERM, then_sleep=60))
    assert end.value.code == 128 + signal.SIGTERM
    assert torch.load(tmp_path / "runs/small/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2


def test_other_parts_resume_too(whole: dict[str, LaserCLI], interrupt: Callable[..., None], finish: Fit) -> None:
    """Signal, scale and bandit with states of other kinds, one arm per prompt, between accumulated gradients."""
    interrupt("on_train_batch_end", STEPS + 2, *OTHER_PARTS)
    assert_same(run_state(finish(*OTHER_PARTS).folder), run_state(whole["other"].folder))


def test_interrupted_twice_and_with_torn_files(
    tmp_path: Path, whole: dict[str, LaserCLI], interrupt: Callable[..., None], finish: Fit
) -> None:
    interrupt("on_train_batch_end", 3)
    with (tmp_path / "runs/small/selection.jsonl").open("a") as file:
        file.write('{"iteration": 0, "st')
    interrupt("on_train_batch_end", STEPS, "--resume")
    (tmp_path / "runs/small/rollouts/iteration-001/chunk-00009.tmp").write_bytes(b"PAR1")
    assert_same(run_state(finish().folder), run_state(whole["default"].folder))


@pytest.mark.parametrize("chunks", [1, 3])
def test_interrupted_during_rollouts(
    fit: Fit, finish: Fit, tmp_path: Path, whole: dict[str, LaserCLI], monkeypatch: pytest.MonkeyPatch, chunks: int
) -> None:
    """Chunks that were written are kept, the others are made; 16 prompts make 2 chunks an iteration."""
    write, written = RolloutStore.write, []

    def write_until(store: RolloutStore, chunk: int, *args: Any) -> None:
        if len(written) == chunks:
            raise RuntimeError("the plug was pulled")
        write(store, chunk, *args)
        written.append(store.path(chunk))

    with monkeypatch.context() as patch:
        patch.setattr(RolloutStore, "write", write_until)
        with pytest.raises(RuntimeError, match="the plug was pulled"):
            fit(tmp_path)
    times = [path.stat().st_mtime_ns for path in written]
    assert len(times) == chunks
    run = finish()
    assert [path.stat().st_mtime_ns for path in written] == times
    assert_same(run_state(run.folder), run_state(whole["default"].folder))


def test_checkpoint_holds_no_base_weights(whole: dict[str, LaserCLI]) -> None:
    run = whole["default"]
    state = torch.load(run.folder.checkpoint, weights_only=True)["state_dict"]
    assert state
    assert all("lora_" in name for name in state)
    trained = {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    assert set(state) == trained
    base = sum(p.numel() for name, p in run.model.named_parameters() if name not in trained)
    adapter = sum(tensor.numel() for tensor in state.values())
    # With AdamW's two moments it would hold 3 adapters; a base would add to that.
    held = sum(tensor.numel() for tensor in tensors_in(torch.load(run.folder.checkpoint, weights_only=True)))
    assert 3 * adapter <= held < 3 * adapter + base


def tensors_in(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in tensors_in(part)]
    return [tensor for part in value for tensor in tensors_in(part)] if isinstance(value, (list, tuple)) else []


def test_rollouts_that_vanished_are_not_made_by_a_policy_that_moved_on(
    tmp_path: Path, interrupt: Callable[..., None], fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt("on_train_batch_end", 3)
    folder = RunFolder(tmp_path / "runs" / "small")
    gone = folder.path / "rollouts" / "iteration-000" / "chunk-00001.parquet"
    kept = gone.read_bytes()
    saved = folder.checkpoint.read_bytes()
    for what, reason in ((None, "cannot be made again"), (b"PAR1", "cannot be read"), (kept[:-9], "cannot be read")):
        gone.unlink()
        if what is not None:
            gone.write_bytes(what)
        with pytest.raises(SystemExit) as end:
            fit(tmp_path, "--resume")
        assert end.value.code == 2
        assert f"{gone} {'is gone, and ' if what is None else ''}{reason}" in capsys.readouterr().err
        assert folder.checkpoint.read_bytes() == saved
        gone.write_bytes(kept)
    fit(tmp_path, "--resume")


@pytest.mark.parametrize(("finished", "reason"), [(False, "there is none of that name"), (True, "are finished")])
def test_nothing_to_resume_is_refused(
    fit: Fit,
    whole: dict[str, LaserCLI],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    finished: bool,
    reason: str,
) -> None:
    runs = whole["default"].folder.path.parent if finished else tmp_path / "runs"
    before = list(runs.iterdir()) if finished else []
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, f"--runs_dir={runs}", "--resume")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("laser_pl: --resume: no unfinished run 'small' in")
    assert reason in told
    assert (list(runs.iterdir()) if finished else []) == before


def test_second_run_of_a_name_gets_its_own_folder(fit: Fit, interrupt: Callable[..., None], tmp_path: Path) -> None:
    """And resume continues the one that is named, since neither began with the settings of now."""
    short = ["--trainer.max_epochs=1", "--data.prompts_per_iteration=4"]
    first = fit(tmp_path, *short)
    kept = first.folder.summary.read_bytes()
    interrupt("on_validation_start", 0, *short)
    with pytest.raises(SystemExit):
        fit(tmp_path, *short, "--resume")
    third = fit(tmp_path, *short, f"--resume={tmp_path / 'runs' / 'small-2'}")
    assert third.folder.path.name == "small-2"
    assert first.folder.summary.read_bytes() == kept
    assert third.summary["accuracy"] == first.summary["accuracy"]


def test_other_settings_on_resume_are_named(
    interrupt: Callable[..., None], finish: Fit, caplog: pytest.LogCaptureFixture
) -> None:
    """And only those: what says which run is meant is no setting."""
    short = ["--trainer.max_epochs=1", "--data.prompts_per_iteration=8"]
    interrupt("on_train_batch_end", 1, *short)
    run = finish(*short, "--optimizer.lr=0.25", "--selection.bandit.alpha=0.125")
    (told,) = [record.message for record in caplog.records if "other than those" in record.message]
    assert "stay in config.yaml: optimizer.init_args.lr is 0.25 and was" in told
    assert "; selection.bandit.init_args.alpha is 0.125 and was" in told
    assert told.count(" and was ") == 3  # the third is the plug, among the trainer's callbacks
    caplog.clear()
    tell_of_changes(run.folder.config, run.folder.config.read_text(encoding="utf-8"))
    assert not caplog.records


def test_accuracy_before_on_other_test_prompts_is_none(
    interrupt: Callable[..., None], finish: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose difference from the accuracy after would be no change."""
    short = ["--trainer.max_epochs=1"]
    (tmp_path / "other.jsonl").write_text("".join(TEST_PROMPTS.read_text().splitlines(keepends=True)[-8:]))
    interrupt("on_train_batch_end", 3, *short)  # once there is a checkpoint
    run = finish(*short, f"--data.test={tmp_path / 'other.jsonl'}")
    assert run.summary["accuracy"]["before"] is None
    assert run.summary["accuracy"]["after"]
    assert "The test prompts are others than those that were tested before training" in caplog.text
    rows = {row["category"]: row for row in accuracy_rows(read_records(run.folder.path))}
    assert all(row["sampled_before"] is None for row in rows.values())
    for category, value in run.summary["accuracy"]["after"].items():
        assert rows[category]["sampled_after"] == pytest.approx(value)


def test_a_run_that_goes_on_elsewhere_is_left_alone(
    interrupt: Callable[..., None], fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--trainer.max_epochs=1", "--data.prompts_per_iteration=8"]
    interrupt("on_train_batch_end", 1, *short)
    folder = RunFolder(tmp_path / "runs" / "small")
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    with folder.held(), pytest.raises(SystemExit) as end:
        fit(tmp_path, *short, "--resume")
    assert end.value.code == 2
    assert f"The run in '{folder.path}' is still going on in another process." in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before
    fit(tmp_path, *short, "--resume")
    assert folder.summary.exists()
