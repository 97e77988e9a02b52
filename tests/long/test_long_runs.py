"""The scripts that kill and resume runs, and that watch a long one, in short forms."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.usefixtures("untouched_results")
ROOT = Path(__file__).resolve().parents[2]
Import = Callable[[str], ModuleType]


# -- kill and resume ---------------------------------------------------------------------------------------------------


SMALLER = [
    "--data.prompts_per_iteration=32", "--data.rollouts.n=4", "--data.evaluation_batch_size=4",
    "--model.evaluation.n=1", "--trainer.val_check_interval=3",
]  # fmt: skip


def test_a_run_that_is_killed_three_times_ends_like_one_that_was_not(
    benchmarks: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, SIGKILL, the script's own comparison; iterations of four batches."""
    page, script = tmp_path / "RESULTS.md", benchmarks("kill_resume")
    whole = script.command
    monkeypatch.setattr(script, "command", lambda folder: [*whole(folder), *SMALLER])
    script.main(["--kills", "3", "--each", "3", "--seed", "1", "--results", str(page)])
    text = page.read_text()
    assert "0 could not be resumed; parts that differ from the undisturbed run: none." in text
    assert "| all | 3 | 0 |" in text


@pytest.mark.parametrize(
    ("frames", "moment"),
    [
        (["/t/nn/linear.py:f", "laser_pl/generation/sampler.py:_sample", "laser_pl/data/rollouts.py:make"],
         "sampling rollouts"),
        (["laser_pl/data/rollout_store.py:write", "laser_pl/data/rollouts.py:make"], "writing rollouts"),
        (["/t/serialization.py:save", "callbacks/run_checkpoint.py:save"], "writing a checkpoint"),
        (["laser_pl/rewards/pool.py:ask", "laser_pl/selection/selector.py:_judge"], "scoring"),
        (["laser_pl/bandits/ridge.py:update", "laser_pl/selection/selector.py:_judge"], "choosing and learning"),
        (["laser_pl/generation/sampler.py:sample", "laser_pl/policy/answering.py:_count"], "validation and test"),
        (["training/pair_step.py:batch_loss", "policy/policy.py:training_step", "automatic.py:run"], "training step"),
        (["torch/autograd/graph.py:run_backward", "optimization/automatic.py:run"], "backward and optimizer"),
        ([], "set-up, resuming and in between"),
    ],
)  # fmt: skip
def test_moments_are_told_by_the_stack(benchmarks: Import, frames: list[str], moment: str) -> None:
    lines = [f'  File "/x/{frame.split(":")[0]}", line 7 in {frame.split(":")[1]}' for frame in frames]
    assert benchmarks("kill_resume").moment("Current thread 0x1:\n" + "\n".join(lines)) == moment


def test_the_named_functions_exist(benchmarks: Import) -> None:
    """A renamed one would leave its moment without kills."""
    for _, file, function in benchmarks("kill_resume").MOMENTS:
        found = [path for folder in ("laser_pl", "callbacks") for path in (ROOT / folder).rglob(file or "cli.py")]
        if found:  # the others are Lightning's
            assert f"def {function}" in found[0].read_text()


def test_a_difference_is_counted_under_every_kill_of_its_run(benchmarks: Import) -> None:
    script = benchmarks("kill_resume")
    whole = script.Outcome(digests={"adapter": "a"})
    same = script.Outcome(["scoring", "scoring"], {"adapter": "a"})
    other = script.Outcome(["scoring", "training step"], {"adapter": "b"})
    lost = script.Outcome(["writing records"], trouble="laser_pl: no")
    rows = [line.strip("| ").split(" | ") for line in script.table([same, other, lost], whole)[2:]]
    assert rows == [
        ["scoring", "3", "1"], ["training step", "1", "1"], ["writing records", "1", "1"], ["all", "5", "3"],
    ]  # fmt: skip


# -- soak --------------------------------------------------------------------------------------------------------------


def test_a_short_soak_marks_every_iteration_but_the_first(
    benchmarks: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    script = benchmarks("soak")
    monkeypatch.setattr(script, "STEPS", 4)
    marks = script.run(12, str(tmp_path), ["--data.one_category_per_batch=false", "--data.rollouts.n=4"])
    assert [mark.step for mark in marks] == [8, 12]
    assert all(mark.memory > 2**26 and mark.seconds > 0 for mark in marks)
    assert all(set(mark.bytes) == {"checkpoints", "rollouts", "records"} for mark in marks)
    assert sorted(os.listdir(tmp_path / "soak" / "rollouts")) == ["iteration-002"]


def test_growth_is_found_and_its_absence_too(benchmarks: Import) -> None:
    script = benchmarks("soak")

    def marks(growth: float) -> list[object]:
        sizes = {"checkpoints": 2**20, "rollouts": 2**20, "records": 2**10}
        return [script.Mark(40 * i, round(1e9 * (1 + growth * 40 * i / 1000)), 2.0, sizes) for i in range(1, 51)]

    lines, holds = script.report(marks(0.005))
    assert holds
    assert "| resident memory, MiB | 958.6 | 963.2 | +0.50% |" in lines
    assert "| milliseconds a step | 50.0 | 50.0 | +0.00% |" in lines
    assert not script.report(marks(0.03))[1]
