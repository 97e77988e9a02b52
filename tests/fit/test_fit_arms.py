"""Arms come and go while training goes on, and take turns in memory."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from laser_pl.commands.cli import LaserCLI
from laser_pl.models.language_model import Weights
from laser_pl.rewards import SequenceClassifier
from tests.runs import Fit, decisions_of

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart" / "reward_models"


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Six steps an iteration."""
    return ["--data.prompts_per_iteration=24"]


def arms(*names: str) -> str:
    """The quickstart's reward models of these names."""
    specs = {
        name: {
            "class_path": "laser_pl.rewards.SequenceClassifier",
            "init_args": {"weights": {"name": str(WORLD / name.removesuffix("_2"))}},
        }
        for name in names
    }
    return f"--selection.reward_models={json.dumps(specs)}"


def bandit_state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)["callbacks"]["RewardSelection"]["bandit"]["models"]
    return state


@pytest.fixture(scope="module")
def first(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    """One iteration with three arms."""
    return fit(tmp_path_factory.mktemp("first"), arms("numbers", "sorter", "general"))


def go_on(fit: Fit, first: LaserCLI, folder: Path, *args: str) -> LaserCLI:
    """A second iteration, from the first one's checkpoint."""
    return fit(folder, *args, f"--ckpt_path={first.folder.checkpoint}", "--trainer.max_epochs=2")


@pytest.mark.parametrize(
    ("names", "added", "removed"),
    [
        (("numbers", "sorter", "general", "mirror"), ["mirror"], []),
        (("general", "numbers"), [], ["sorter"]),
        (("general_2", "mirror", "numbers", "sorter"), ["general_2", "mirror"], ["general"]),
    ],
    ids=["one more", "one less, in another order", "one replaced and one more"],
)
def test_the_bandit_keeps_what_it_knew_of_those_that_stay(
    fit: Fit,
    first: LaserCLI,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    names: tuple[str, ...],
    added: list[str],
    removed: list[str],
) -> None:
    before = bandit_state(first.folder.checkpoint)
    with caplog.at_level(logging.INFO):
        run = go_on(fit, first, tmp_path, arms(*names))
    decisions = decisions_of(run)
    assert [d["iteration"] for d in decisions] == [1] * 6
    assert all(set(d["mean"]) == set(names) for d in decisions)
    after = bandit_state(run.folder.checkpoint)
    assert set(after) == set(names)
    for name in names:
        new_contexts = sum(name in (d["reward"] or {}) for d in decisions)
        known = before[name]["terms"] if name in before else torch.zeros(0, 65)
        assert len(after[name]["terms"]) == len(known) + new_contexts
        assert torch.equal(after[name]["terms"][: len(known)], known.to(after[name]["terms"]))
    # Fresh: the first decision's mean is 0 and its bonus the widest there is.
    for name in added:
        assert decisions[0]["mean"][name] == 0
        assert decisions[0]["bonus"][name] == max(decisions[0]["bonus"].values())
    assert run.summary["arm_changes"] == [{"step": 6, "added": added, "removed": removed}]
    assert any("Arms that start fresh" in message for message in caplog.messages)
    assert all(sum(shares.values()) == pytest.approx(1) for shares in run.summary["arm_share"].values())
    # Counted from the decisions: of a batch each holds the whole batch's forwards, and the arms that there were.
    every = [*decisions_of(first), *decisions]
    done = sum(sum(d["reward_model_forwards"].values()) for d in every)
    possible = sum(len(d["prompt_ids"]) * run.datamodule.rollouts.n * len(d["mean"]) for d in every)
    assert len({d["step"] for d in every}) == len(every)
    assert sum(run.summary["reward_model_forwards"].values()) == done
    assert run.summary["reward_model_forwards_avoided"] == possible - done


def test_the_same_arms_in_another_order_are_no_change(fit: Fit, first: LaserCLI, tmp_path: Path) -> None:
    """And they are chosen as if nothing had happened, but for ties."""
    same = go_on(fit, first, tmp_path / "same", arms("numbers", "sorter", "general"))
    turned = go_on(fit, first, tmp_path / "turned", arms("general", "numbers", "sorter"))
    assert turned.summary["arm_changes"] == same.summary["arm_changes"] == []
    assert [d["arm"] for d in decisions_of(turned)] == [d["arm"] for d in decisions_of(same)]


def test_changes_are_remembered_over_several_restarts(fit: Fit, first: LaserCLI, tmp_path: Path) -> None:
    second = go_on(fit, first, tmp_path, arms("numbers", "sorter", "mirror"))
    third = fit(tmp_path, arms("numbers"), f"--ckpt_path={second.folder.checkpoint}", "--trainer.max_epochs=3")
    assert third.summary["arm_changes"] == [
        {"step": 6, "added": ["mirror"], "removed": ["general"]},
        {"step": 12, "added": [], "removed": ["sorter", "mirror"]},
    ]


@pytest.mark.parametrize("spill", ["disk", "cpu"])
def test_a_budget_for_one_changes_nothing_but_what_is_held(fit: Fit, tmp_path: Path, spill: str) -> None:
    turns = ["--selection.bandit=RoundRobin", arms("numbers", "sorter", "general")]
    size = SequenceClassifier(Weights(str(WORLD / "numbers"))).size()
    free = fit(tmp_path / "free", *turns)
    tight = fit(tmp_path / "tight", *turns, f"--selection.memory_budget={size}B", f"--selection.spill={spill}")
    assert free.selector.pool.memory.held == ["numbers", "sorter", "general"]
    assert tight.selector.pool.memory.held == ["general"]
    pool = tight.selector.pool
    assert [name for name in pool.names if pool.reward_models[name].models] == ["general"]
    timed = {"reward_model_seconds"}
    assert [{k: v for k, v in d.items() if k not in timed} for d in decisions_of(tight)] == [
        {k: v for k, v in d.items() if k not in timed} for d in decisions_of(free)
    ]


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ("400KiB", "The reward model 'numbers' has 49"),
        ("plenty", "'plenty' is no size. Set selection.memory_budget"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_before_the_first_rollout(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str], budget: str, told: str
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, arms("numbers", "sorter"), f"--selection.memory_budget={budget}")
    assert end.value.code == 2
    assert told in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*"))


def test_a_checkpoint_of_another_bandit_is_named(
    fit: Fit, first: LaserCLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        go_on(fit, first, tmp_path, arms("numbers", "sorter"), "--selection.bandit=RoundRobin")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "laser_pl: The checkpoint's bandit is LinUCB, and selection.bandit is RoundRobin now." in told
    assert "Go on with LinUCB, or start a new run." in told
    assert not list((tmp_path / "runs").glob("*"))
