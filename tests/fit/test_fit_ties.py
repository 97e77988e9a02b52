"""Runs with a reward model that distinguishes nothing: no step is lost to it, and the bandit learns to leave it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from laser_pl.commands.explain import reason
from laser_pl.report.records import read_records
from laser_pl.report.selection_warnings import told_nothing_apart
from tests.runs import Fit, decisions_of

FUNCTIONS = """
def constant(prompts, completions, **columns):
    return [3.0] * len(completions)

def mute(prompts, completions, **columns):
    return [None] * len(completions)

def faint(prompts, completions, **columns):
    return [1e-6 * sum(map(ord, text)) for text in completions]

def long(prompts, completions, **columns):
    return [float(sum((i + 1) * ord(c) for i, c in enumerate(text))) for text in completions]

def late(prompts, completions, **columns):
    return [float(sum((9 - i) * ord(c) for i, c in enumerate(text))) for text in completions]

def sums_only(prompts, completions, category, **columns):
    return [float(sum(map(ord, text))) if kind == "addition" else 0.5 for text, kind in zip(completions, category)]
"""


def pool(*names: str) -> str:
    models = {
        name: {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"tying_rewards.{name}"}}
        for name in names
    }
    return f"--selection.reward_models={json.dumps(models)}"


@pytest.fixture(autouse=True)
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tying_rewards.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "tying_rewards", raising=False)


SIX_STEPS = ["--data.prompts_per_iteration=24"]


@pytest.mark.parametrize("arm", ["constant", "faint", "mute"])
def test_no_step_is_lost_to_an_arm_that_tells_nothing_apart(fit: Fit, tmp_path: Path, arm: str) -> None:
    """It is asked, passed over, observed at chance, and its bonus shrinks as that of others."""
    margin = ["--selection.pairs.min_margin=0.01"] if arm == "faint" else []
    run = fit(tmp_path, pool(arm, "long"), *SIX_STEPS, *margin)
    decisions = decisions_of(run)
    assert run.summary["steps_without_pairs"] == 0
    assert {d["arm"] for d in decisions} == {"long"}
    asked = [d for d in decisions if d["passed_over"]]
    assert asked
    for d in asked:
        assert d["passed_over"] == [arm]
        assert d["tied"] == ([] if arm == "mute" else [arm])
        assert set(d["observed"]) == {arm, "long"}
        assert ("its scores tied" in reason(d)) == (arm != "mute")
    assert decisions[-1]["bonus"][arm] < decisions[0]["bonus"][arm]
    assert run.summary["reward_model_forwards"][arm] == len(asked) * 4 * 6  # what it cost is counted
    caution = told_nothing_apart(read_records(run.folder.path))
    assert caution is None or f"'{arm}' was asked its scores tied" in caution.what


def test_each_prompt_has_its_own_next_best(fit: Fit, tmp_path: Path) -> None:
    """Round robin by prompts: where one knows nothing of a category, others judge, and only those prompts."""
    run = fit(tmp_path, pool("sums_only", "long"), "--selection.granularity=prompt", "--selection.bandit=RoundRobin")
    decisions = decisions_of(run)
    tied = [d for d in decisions if d["tied"]]
    assert tied
    assert all(d["tied"] == ["sums_only"] and d["arm"] == "long" and d["category"] != "addition" for d in tied)


def test_a_poll_in_a_step_without_a_pair_teaches(fit: Fit, tmp_path: Path) -> None:
    """With one constant arm and no other nothing is trained, and what trusted prompts say of it is learned."""
    run = fit(tmp_path, pool("constant"), "--selection.signal=Trusted", "--selection.signal.share=1", *SIX_STEPS)
    decisions = decisions_of(run)
    assert run.summary["steps_without_pairs"] == run.summary["steps"]
    polled = [d for d in decisions if d["observed"]]
    assert polled
    assert all(d["loss"] is None and d["observed"] == {"constant": 0.5} for d in polled)
    assert decisions[-1]["bonus"]["constant"] < decisions[0]["bonus"]["constant"]


def test_a_step_whose_loss_is_not_finite_teaches_what_does_not_come_of_it(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is hidden, since it may be the fault of the policy; scores of the poll are as true as ever."""
    from laser_pl.policy import policy

    real = policy.batch_loss

    def broken(*args: Any, **kwargs: Any) -> Any:
        loss, losses, means = real(*args, **kwargs)
        return loss * torch.nan, losses, means

    monkeypatch.setattr(policy, "batch_loss", broken)
    settings = ["--model.max_bad_steps=99", pool("long", "late"), *SIX_STEPS]
    silent = fit(tmp_path / "loss", *settings)
    assert silent.summary["steps_not_finite"] == 6
    assert all(d["observed"] == {} and d["loss"] is None for d in decisions_of(silent))
    heard = fit(tmp_path / "cooling", *settings, "--selection.signal=Cooling", "--selection.signal.share=1")
    assert all(set(d["observed"]) == {"long", "late"} and d["loss"] is None for d in decisions_of(heard))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["--selection.signal=Trusted", "--selection.signal.share=1e-9"], "Trusted observed nothing in iteration 1"),
        (["--selection.signal=Cooling", "--selection.signal.share=1e-9"], "no prompt is in its share"),
        (["--selection.signal=Loss", "--selection.pairs.min_margin=1e9"], "no step was trained on pairs"),
    ],
)
def test_a_signal_that_observed_nothing_says_why(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: list[str], why: str
) -> None:
    with caplog.at_level(logging.WARNING):
        fit(tmp_path, pool("long", "late"), *settings)
    assert [message for message in caplog.messages if why in message], caplog.messages


def test_a_share_of_the_prompts_follows_the_runs_seed_unless_it_has_one(fit: Fit, tmp_path: Path) -> None:
    def trusted_by(seed: int, *settings: str) -> set[str]:
        run = fit(tmp_path / f"{seed}{len(settings)}", pool("long"), "--selection.signal=Trusted", *settings,
                  "--selection.signal.share=0.5", f"--seed_everything={seed}", "--trainer.limit_train_batches=1",
                  )  # fmt: skip
        signal: Any = run.selector.signal
        return {str(number) for number in range(200) if str(number) in signal.trusted}

    assert trusted_by(0) != trusted_by(1)
    assert trusted_by(0, "--selection.signal.seed=7") == trusted_by(1, "--selection.signal.seed=7")
