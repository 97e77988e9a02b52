"""What ``fit`` refuses it refuses before any weights are loaded, and ``plan`` refuses it as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laser_pl.commands.cli import main
from laser_pl.forecast.command import main as plan
from laser_pl.policy.policy import Policy

EXACT = "laser_pl.metrics.matchers.Exact"
PARTIAL = {"class_path": "laser_pl.metrics.graded.ByCategory", "init_args": {"graders": {"sort": EXACT}}}
JUDGE = {
    "class_path": "laser_pl.rewards.SequenceClassifier",
    "init_args": {"weights": {"name": str(Path(__file__).parents[2] / "experiments/quickstart/reward_models/numbers")}},
}


def arm(name: str, **settings: Any) -> str:
    return "--selection.reward_models=" + json.dumps(
        {"a": {"class_path": f"laser_pl.rewards.{name}", "init_args": settings}}
    )


SELECTION = {"class_path": "laser_pl.callbacks.reward_selection.RewardSelection", "init_args": {
    "reward_models": {"a": JUDGE}, "bandit": "laser_pl.bandits.LinUCB", "context": {}, "seed": 0,
    "signal": "laser_pl.feedback.signals.Loss", "normalizer": "laser_pl.feedback.normalizers.Raw",
    "pairs": "laser_pl.data.pairs.RandomPairs",
}}  # fmt: skip
PLATEAU = {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": {"monitor": "val_loss"}}
STOPPING = {
    "class_path": "lightning.pytorch.callbacks.EarlyStopping",
    "init_args": {"monitor": "validation/accuracy/sampled/averag"},
}
ONE_CYCLE = ["--lr_scheduler=torch.optim.lr_scheduler.OneCycleLR", "--lr_scheduler.max_lr=0.1"]
REFUSED = {
    "a schedule without a length": (ONE_CYCLE, "You must define either total_steps OR"),
    "a schedule that the run exceeds": (
        [*ONE_CYCLE, "--lr_scheduler.total_steps=3"],
        "OneCycleLR has 3 steps, and the run has 4. Set lr_scheduler.init_args.total_steps to 4",
    ),
    "a schedule by a metric that is not logged": (
        [f"--lr_scheduler={json.dumps(PLATEAU)}"],
        "lr_scheduler.init_args.monitor is 'val_loss', and no such metric is logged.",
    ),
    "a stop by a metric that is not logged": (
        [f"--trainer.callbacks+={json.dumps(STOPPING)}"],
        "and no such metric is logged. Did you mean 'validation/accuracy/sampled/average'?",
    ),
    "no grader for a category": (["--model.matcher=" + json.dumps(PARTIAL)], "no grader for the category"),
    "no grader under the signal": (
        ["--selection.signal=laser_pl.feedback.signals.Trusted", "--selection.signal.matcher=" + json.dumps(PARTIAL)],
        "no grader for the category",
    ),
    "no grader under a probe": (
        ["--selection.signal=laser_pl.feedback.signals.ProbeGain", "--selection.signal.matcher=" + json.dumps(PARTIAL)],
        "no grader for the category",
    ),
    "no grader under a verifier": ([arm("Verifier", matcher=PARTIAL)], "no grader for the category"),
    "no reward model for a category": (
        [arm("ByCategory", reward_models={"sort": JUDGE})],
        "ByCategory has no reward model for the category",
    ),
    "nor within another": (
        [
            arm(
                "MinEnsemble",
                reward_models={
                    "b": {"class_path": "laser_pl.rewards.ByCategory", "init_args": {"reward_models": {"sort": JUDGE}}}
                },
            )
        ],
        "ByCategory has no reward model for the category",
    ),
    "no such reward model": (
        [arm("SequenceClassifier", weights={"name": "./nowhere"})],
        "There is no folder './nowhere'",
    ),
    "rollouts of an old iteration": (
        ["--trainer.reload_dataloaders_every_n_epochs=0"],
        "trainer.reload_dataloaders_every_n_epochs is 0",
    ),
    "a folder that is not used": (["--trainer.default_root_dir=x"], "trainer.default_root_dir does nothing here"),
    "validation that is never due": (["--trainer.val_check_interval=99"], "trainer.val_check_interval is 99"),
    "precision": (["--trainer.precision=64-true"], "would round the reference log-probabilities"),
    "quantiles in per cent": (
        ["--selection.normalizer=PooledQuantiles", "--selection.normalizer.low=20", "--selection.normalizer.high=80"],
        "low and high must be quantiles in [0, 1], low the smaller one, got 20.0 and 80.0",
    ),
    "quantiles the other way round": (
        ["--selection.normalizer=PooledQuantiles", "--selection.normalizer.low=0.8", "--selection.normalizer.high=0.2"],
        "low the smaller one, got 0.8 and 0.2",
    ),
    "an oracle that does not know a category": (
        [
            "--selection.granularity=prompt",
            "--selection.bandit=Oracle",
            '--selection.bandit.right={"sorting": "sorter"}',
        ],
        "selection.bandit.right says nothing of the category 'addition', only of sorting.",
    ),
    "optimizer": (["--optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
    "schedule": (
        [
            "--lr_scheduler=torch.optim.lr_scheduler.OneCycleLR",
            "--lr_scheduler.max_lr=1",
            "--lr_scheduler.total_steps=0",
        ],
        "lr_scheduler: ",
    ),
    "schedule that divides by nothing": (
        ["--lr_scheduler=torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size=0"],
        "lr_scheduler: ",
    ),
    "checkpoints": (["--checkpoint_every=0"], "checkpoint_every must be >= 1, got 0"),
    "iterations kept": (["--keep_iterations=0"], "keep_iterations must be >= 1, got 0"),
    "two selections": (["--trainer.callbacks+=" + json.dumps(SELECTION)], "trainer.callbacks holds a RewardSelection"),
    "a column": (["--data.columns.answer=nosuch"], "has no column 'nosuch'"),
    "responses too long": (["--data.rollouts.max_new_tokens=100000"], "leave no room for a prompt"),
    "a checkpoint that is not there": (["--ckpt_path=nowhere.ckpt"], "There is no checkpoint 'nowhere.ckpt'"),
    "a budget": (["--selection.memory_budget=1KiB"], "more than selection.memory_budget"),
    "supervised without responses": (["--model.objective=laser_pl.objectives.Supervised"], "Set data.columns.response"),
    "nothing to resume": (["--resume"], "no unfinished run"),
}


@pytest.mark.parametrize(("args", "sentence"), REFUSED.values(), ids=REFUSED)
def test_both_refuse_it(
    fit_command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    sentence: str,
) -> None:
    def loads(policy: Policy) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(Policy, "configure_model", loads)
    monkeypatch.setattr("laser_pl.forecast.forecast.phases", lambda *_: [])  # seconds of memory on paper, refusing none
    command = fit_command(tmp_path, *args)
    for run in (lambda: main(command), lambda: plan(command[1:])):
        with pytest.raises(SystemExit) as end:
            run()
        assert end.value.code == 2
        told = capsys.readouterr()
        assert sentence in " ".join((told.err + told.out).split())
    assert not (tmp_path / "runs" / "small").exists()
