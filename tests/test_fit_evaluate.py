"""`validate` and `test` of a finished run's checkpoint give what the run itself had measured."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from laser_pl.cli import LaserCLI, main

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
WORLD = EXPERIMENTS / "quickstart"
SMALL = """
name: small
trainer: {max_epochs: 2}
model: {evaluation: {n: 4}}
data: {prompts_per_iteration: 16, batch_size: 4, one_category_per_batch: false, rollouts: {n: 6}}
"""


def fit(folder: Path, *args: str) -> LaserCLI:
    """The quickstart on 16 prompts, evaluated on 12."""
    folder.mkdir(exist_ok=True)
    quickstart = (EXPERIMENTS / "quickstart.yaml").read_text().replace("experiments/", f"{EXPERIMENTS}/")
    (folder / "quickstart.yaml").write_text(quickstart)
    (folder / "small.yaml").write_text(SMALL)
    (folder / "few.jsonl").write_text("\n".join((WORLD / "prompts/test.jsonl").read_text().splitlines()[:12]))
    few = [f"--data.{split}={folder / 'few.jsonl'}" for split in ("validation", "test")]
    configs = [f"--config={folder / name}" for name in ("quickstart.yaml", "small.yaml")]
    return main(["fit", *configs, f"--runs_dir={folder / 'runs'}", *few, *args])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    return fit(tmp_path_factory.mktemp("run"), "--optimizer.lr=0.01")


@pytest.mark.parametrize(("command", "stage"), [("validate", "validation"), ("test", "test")])
def test_checkpoint_measures_as_logged(
    run: LaserCLI, command: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.folder.path.parent.rglob("*"))
    again = main([command, f"--config={run.folder.config}", f"--ckpt_path={run.folder.checkpoint}"])
    assert sorted(run.folder.path.parent.rglob("*")) == before
    with run.folder.metrics.open(newline="") as file:
        column = f"{stage}/accuracy/sampled/average"
        rows = [row for row in csv.DictReader(file) if row[column]]
    logged = {name: float(value) for name, value in rows[-1].items() if name.startswith(stage) and value}
    measured = {name: float(value) for name, value in again.trainer.callback_metrics.items()}
    assert measured == pytest.approx(logged, abs=1e-6)
    assert f"{stage}/accuracy/greedy/average" in measured
    printed = capsys.readouterr().out
    assert f"{stage}/accuracy/sampled/average" in printed


def test_training_changed_what_is_measured(run: LaserCLI) -> None:
    """Or the test above could not tell a checkpoint from the base."""
    assert run.summary["accuracy"]["before"] != run.summary["accuracy"]["after"]


def test_without_a_checkpoint_the_base_is_measured(run: LaserCLI) -> None:
    again = main(["test", f"--config={run.folder.config}"])
    prefix = "test/accuracy/sampled/"
    metrics = again.trainer.callback_metrics
    measured = {name.removeprefix(prefix): float(metrics[name]) for name in metrics if name.startswith(prefix)}
    assert measured == pytest.approx(run.summary["accuracy"]["before"], abs=1e-6)
