"""Reward models that fail cost labels, never the run, and nothing invalid reaches the loss or the bandit."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from laser_pl.commands.cli import LaserCLI
from tests.runs import Fit

REWARDS = """
import math, time

calls = []
script = {}  # name: call number to what happens


def _judge(name, completions):
    number = sum(one == name for one in calls)
    calls.append(name)
    what = script.get(name, lambda number: None)(number)
    if isinstance(what, Exception):
        raise what
    if what == "slow":
        time.sleep(0.2)
    if isinstance(what, str) or what is None:
        return [float(len(text)) + 0.1 * index for index, text in enumerate(completions)]
    return what(completions)


def a(prompts, completions, **columns):
    return _judge("a", completions)


def b(prompts, completions, **columns):
    return _judge("b", completions)


def guard(prompts, completions, **columns):
    return _judge("guard", completions)
"""
INVALID = {
    "nan": lambda completions: [math.nan] * len(completions),
    "infinite": lambda completions: [math.inf] * len(completions),
    "none": lambda completions: [None] * len(completions),
    "exception": RuntimeError("boom"),
    "timeout": "slow",
}


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two arms by name, six steps of four prompts with six responses; rounds of a, b, a, b."""
    arms = {
        name: {
            "class_path": "laser_pl.rewards.FunctionReward",
            "init_args": {"function": f"failing_rewards.{name}", "timeout": 0.05},
        }
        for name in "ab"
    }
    return [
        f"--selection.reward_models={json.dumps(arms)}", "--selection.bandit=RoundRobin",
        "--data.prompts_per_iteration=24", "--checkpoint_every=1", "--selection.max_failures=2",
        "--selection.cooldown=3",
    ]  # fmt: skip


@pytest.fixture
def rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of reward functions that do what ``script`` says."""
    (tmp_path / "failing_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(tmp_path)
    import importlib
    import sys

    module = importlib.import_module("failing_rewards")
    yield module
    del sys.modules["failing_rewards"]


def decisions_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "selection.jsonl").read_text().splitlines()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in selection.jsonl")

    return [json.loads(line, parse_constant=refuse) for line in lines]


def numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, Tensor):
        yield from value.double().flatten().tolist() if value.is_floating_point() else []
    elif isinstance(value, dict):
        for part in value.values():
            yield from numbers_in(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from numbers_in(part)
    elif isinstance(value, float):
        yield value


def assert_finite(run: LaserCLI) -> None:
    """In decisions, logged metrics, and all that a checkpoint holds."""
    found = [*numbers_in(decisions_of(run.folder.path)), *numbers_in(run.summary)]
    found += numbers_in(torch.load(run.folder.checkpoint, weights_only=True))
    assert len(found) > 1000
    assert all(map(math.isfinite, found))
    assert "nan" not in run.folder.metrics.read_text()


@pytest.mark.parametrize(
    ("kind", "granularity"), [*((kind, "prompt") for kind in INVALID), ("nan", "batch"), ("exception", "batch")]
)
def test_an_arm_that_fails_gives_way_to_the_next_best(
    fit: Fit, rewards: Any, tmp_path: Path, kind: str, granularity: str
) -> None:
    rewards.script["a"] = lambda number: INVALID[kind]
    run = fit(tmp_path, f"--selection.granularity={granularity}", "--selection.bandit=LinUCB")
    decisions = decisions_of(run.folder.path)
    assert {d["arm"] for d in decisions} == {"b"}
    assert {step for step in range(6)} == {d["step"] for d in decisions}
    paired = [d for d in decisions if d["pairs"]]
    assert {d["step"] for d in paired} == set(range(6))  # a prompt whose responses are all alike has none
    preferred = [d for d in decisions if d["passed_over"] == ["a"]]
    assert preferred
    assert all(d["passed_over"] in ([], ["a"]) for d in decisions)
    # To abstain is an answer, which distinguished nothing; a fault is none.
    abstains = {"a"} if kind == "none" else set()
    assert all(set(d["reward"]) == {"b"} | (abstains & set(d["passed_over"])) for d in paired)
    asked = run.summary["reward_model_forwards"]["a"]
    assert asked > 0
    assert run.summary["labels_missing"] == {"a": {kind: asked}}
    assert_finite(run)


def test_two_failures_in_a_row_put_an_arm_aside_for_three_steps(
    fit: Fit, rewards: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Round robin prefers a in steps 0, 2 and 4; a fails in 0 and 2, so it is aside until step 6 and not asked in 4."""
    rewards.script["a"] = lambda number: INVALID["exception"]
    with caplog.at_level(logging.WARNING):
        run = fit(tmp_path)
    assert rewards.calls == ["a", "b", "b", "a", "b", "b", "b", "b"]
    assert [d["passed_over"] for d in decisions_of(run.folder.path)] == [["a"], [], ["a"], [], ["a"], []]
    aside = [message for message in caplog.messages if "is put aside" in message]
    assert aside == [
        "The reward model 'a' failed 2 times in a row and is put aside for 3 steps. The last time: RuntimeError: boom"
    ]


def test_it_is_asked_again_after_that(fit: Fit, rewards: Any, tmp_path: Path) -> None:
    rewards.script["a"] = lambda number: INVALID["exception"] if number < 2 else None
    run = fit(tmp_path, "--selection.cooldown=1")
    assert [d["arm"] for d in decisions_of(run.folder.path)] == ["b", "b", "b", "b", "a", "b"]


def test_some_invalid_scores_cost_their_pairs_only(fit: Fit, rewards: Any, tmp_path: Path) -> None:
    """Of 24 responses in a call every third is NaN, None or infinite in turn."""

    def spoil(completions: list[str]) -> list[float | None]:
        values: list[float | None] = [float(len(text)) + 0.1 * index for index, text in enumerate(completions)]
        values[::9] = [math.nan] * len(values[::9])
        values[3::9] = [None] * len(values[3::9])
        values[6::9] = [-math.inf] * len(values[6::9])
        return values

    rewards.script["a"] = lambda number: spoil
    run = fit(tmp_path, "--selection.bandit=Fixed")
    assert run.summary["labels_missing"] == {"a": {"nan": 6 * 3, "none": 6 * 3, "infinite": 6 * 2}}
    assert all(d["missing"] == {"a": {"nan": 3, "none": 3, "infinite": 2}} for d in decisions_of(run.folder.path))
    assert all(d["passed_over"] == [] and d["pairs"] > 0 for d in decisions_of(run.folder.path))
    assert_finite(run)


def test_a_fixed_arm_gives_way_to_nobody(fit: Fit, rewards: Any, tmp_path: Path) -> None:
    """A baseline with one reward model stays one; the step is skipped."""
    rewards.script["a"] = lambda number: INVALID["exception"] if number == 2 else None
    run = fit(tmp_path, "--selection.bandit=Fixed")
    assert rewards.calls == ["a"] * 6
    assert [d["pairs"] > 0 for d in decisions_of(run.folder.path)] == [True, True, False, True, True, True]
    assert run.summary["steps_without_pairs"] == 1


@pytest.mark.parametrize("bandit", ["RoundRobin", "Fixed"])
def test_when_nobody_is_left_the_run_stops_with_a_checkpoint_and_goes_on_from_it(
    fit: Fit, rewards: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], bandit: str
) -> None:
    broken = {"a": 1, "b": 2}  # from which call on
    for name in broken:
        rewards.script[name] = lambda number, first=broken[name]: INVALID["exception"] if number >= first else None
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, f"--selection.bandit={bandit}")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "laser_pl: No reward model is left that can judge; the last one that failed was" in told
    assert "RuntimeError: boom" in told
    assert "checkpoints/last.ckpt: mend the reward models and go on with --resume." in told
    assert "Traceback" not in told
    folder = tmp_path / "runs" / "small"
    done = len({d["step"] for d in decisions_of(folder)})
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"]["RunRecord"]["steps"] == done
    rewards.script.clear()
    run = fit(tmp_path, f"--selection.bandit={bandit}", "--resume")
    decisions = decisions_of(run.folder.path)
    assert [d["step"] for d in decisions] == list(range(6))
    assert all(d["pairs"] > 0 for d in decisions[done:])
    assert_finite(run)


def test_trusted_checks_leave_out_who_fails(fit: Fit, rewards: Any, tmp_path: Path) -> None:
    rewards.script["a"] = lambda number: INVALID["nan"]
    run = fit(tmp_path, "--selection.signal=laser_pl.feedback.signals.Trusted", "--selection.signal.share=1.0")
    learned = Counter(arm for d in decisions_of(run.folder.path) for arm in d["reward"] or {})
    assert set(learned) == {"b"}
    assert_finite(run)


def test_counters_of_decisions_and_summary_agree(fit: Fit, rewards: Any, tmp_path: Path) -> None:
    rewards.script["a"] = lambda number: INVALID["exception"] if number % 2 else None
    run = fit(tmp_path, "--selection.granularity=prompt", "--selection.bandit=Uniform")
    first_of_step = {d["step"]: d for d in reversed(decisions_of(run.folder.path))}.values()
    forwards: Counter[str] = sum((Counter(d["reward_model_forwards"]) for d in first_of_step), Counter())
    missing: Counter[str] = sum((Counter(d["missing"].get("a", {})) for d in first_of_step), Counter())
    assert dict(forwards) == run.summary["reward_model_forwards"]
    assert dict(missing) == run.summary["labels_missing"]["a"]


# -- constraints -------------------------------------------------------------------------------------------------------


def constraint(threshold: float = 0.5) -> list[str]:
    spec = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "failing_rewards.guard"}}
    return [f"--selection.constraints={json.dumps({'short': {'reward_model': spec, 'threshold': threshold}})}"]


@pytest.mark.parametrize("granularity", ["batch", "prompt"])
def test_what_a_constraint_forbids_is_rejected_but_never_chosen(
    fit: Fit, rewards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granularity: str
) -> None:
    """Arms like length; the constraint forbids more than two characters, and does not know what to say of some."""
    from laser_pl.callbacks.run_record import RunRecord

    batches: list[Any] = []
    record = RunRecord.on_train_batch_end

    def keep(self: Any, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        batches.append(batch)
        record(self, trainer, module, outputs, batch, index)

    monkeypatch.setattr(RunRecord, "on_train_batch_end", keep)

    def opinion(text: str) -> float | None:
        return None if text.endswith("1") else float(len(text) <= 2)

    rewards.script["guard"] = lambda number: lambda completions: [opinion(text) for text in completions]
    run = fit(tmp_path, f"--selection.granularity={granularity}", *constraint())
    seen: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    rejected_forbidden = pairs = 0
    for batch in batches:
        texts = batch.responses.texts
        for row, prompt in enumerate(batch.prompts.prompts):
            seen[prompt.category] += len(texts[row])
            failed[prompt.category] += sum(not opinion(text) for text in texts[row])
        made = batch.pairs
        for row, chosen, rejected in zip(*(t.tolist() for t in (made.prompt, made.chosen, made.rejected)), strict=True):
            pairs += 1
            assert opinion(texts[row][chosen]) == 1.0
            rejected_forbidden += not opinion(texts[row][rejected])
    assert pairs > 0
    counts = run.summary["constraints"]["short"]
    assert counts == {name: {"responses": seen[name], "failed": failed[name]} for name in sorted(seen)}
    forbidden = {d["step"]: d["forbidden"]["short"] for d in decisions_of(run.folder.path)}
    assert sum(forbidden.values()) == sum(failed.values()) > 0
    assert run.summary["reward_model_forwards"]["short"] == sum(seen.values())


def test_a_forbidden_response_may_be_rejected(fit: Fit, rewards: Any, tmp_path: Path) -> None:
    """Arms dislike length here, so that what is forbidden ranks last."""

    def below_the_longest(completions: list[str]) -> list[float]:
        return [float(len(text) < max(map(len, completions))) for text in completions]

    rewards.script["guard"] = lambda number: below_the_longest
    for name in "ab":
        rewards.script[name] = lambda number: lambda completions: [-float(len(text)) for text in completions]
    run = fit(tmp_path, *constraint())
    assert sum(d["pairs"] for d in decisions_of(run.folder.path)) > 0


def test_a_constraint_that_gives_no_score_forbids(fit: Fit, rewards: Any, tmp_path: Path) -> None:
    """And one that fails again and again stops the run, since nobody can stand in for it."""
    rewards.script["guard"] = lambda number: INVALID["exception"] if number in {1, 3} else None
    run = fit(tmp_path, *constraint(threshold=-1.0))
    assert [d["pairs"] > 0 for d in decisions_of(run.folder.path)] == [True, False, True, False, True, True]


def test_a_constraint_that_cannot_be_checked_stops_the_run(
    fit: Fit, rewards: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewards.script["guard"] = lambda number: INVALID["exception"] if number >= 2 else None
    with pytest.raises(SystemExit):
        fit(tmp_path, *constraint(threshold=-1.0))
    assert "The constraint 'short' cannot be checked; short: RuntimeError: boom" in capsys.readouterr().err
    rewards.script.clear()
    run = fit(tmp_path, *constraint(threshold=-1.0), "--resume")
    assert [d["pairs"] > 0 for d in decisions_of(run.folder.path)] == [True, True, False, False, True, True]


def test_an_arm_and_a_constraint_of_one_name_are_refused(
    fit: Fit, rewards: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "failing_rewards.guard"}}
    with pytest.raises(SystemExit):
        fit(tmp_path, f"--selection.constraints={json.dumps({'a': {'reward_model': spec}})}")
    assert "'a' names a reward model and a constraint" in capsys.readouterr().err
