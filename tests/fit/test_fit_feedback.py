"""Signals, granularities and pairs at work: what the bandit is told, and what is skipped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from laser_pl.commands.cli import LaserCLI
from tests.runs import Fit, decisions_of

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"


def rollouts_of(run: LaserCLI) -> dict[str, dict[str, Any]]:
    paths = sorted((run.folder.path / "rollouts").rglob("*.parquet"))
    return {row["prompt_id"]: row for path in paths for row in pq.read_table(path).to_pylist()}


ALL_ARMS = {"Trusted", "Cooling", "Majority"}


SIGNALS = ["Loss", "Dpo", "Nll", "Gap", "Trusted", "Cooling", "Majority", "Advantage", "ProbeGain"]


@pytest.mark.parametrize(
    ("signal", "granularity"),
    # About a batch as a whole: one signal of the loss, one of the scores, one that asks all, one that looks back.
    [*((signal, "prompt") for signal in SIGNALS), *((s, "batch") for s in ("Loss", "Gap", "Majority", "ProbeGain"))],
)
def test_every_signal_teaches(fit: Fit, tmp_path: Path, signal: str, granularity: str) -> None:
    run = fit(tmp_path, f"--selection.signal=laser_pl.feedback.signals.{signal}",
              f"--selection.granularity={granularity}", "--model.nll_weight=0.5",
              *(["--selection.signal.share=1"] if signal in ALL_ARMS else []))  # fmt: skip
    decisions = decisions_of(run)
    assert [len(d["prompt_ids"]) for d in decisions] == ([1] * 16 if granularity == "prompt" else [4] * 4)
    assert any(d["reward"] for d in decisions)
    for d in decisions:
        assert set(d["observed"]) == set(d["reward"])
        if signal in ALL_ARMS:
            # Of an arm whose others are split in all pairs the majority says nothing.
            assert signal == "Majority" or set(d["observed"]) in (set(), set(run.selector.arms))
            assert signal == "Cooling" or all(0 <= value <= 1 for value in d["observed"].values())
        elif signal == "ProbeGain" and d["step"] == 0:
            assert d["observed"] == {}  # there is nothing to compare with yet
        elif d["pairs"]:
            assert list(d["observed"]) == [d["arm"]]
            expected = {"Loss": -(d["dpo"] + 0.5 * d["nll"]), "Dpo": -d["dpo"], "Nll": -d["nll"]}
            if signal in expected:
                assert d["observed"][d["arm"]] == pytest.approx(expected[signal], rel=1e-5)
            elif signal == "Gap":
                assert d["observed"][d["arm"]] > 0
        else:
            assert d["observed"] == {}
            assert d["loss"] is None
    last = decisions[-1]["mean"]
    assert any(last.values())


def test_each_category_of_a_batch_may_have_its_own_judge(fit: Fit, tmp_path: Path) -> None:
    """One decision for each category in the batch, about its prompts."""
    run = fit(tmp_path, "--selection.granularity=category", "--data.one_category_per_batch=false",
              "--selection.bandit=laser_pl.bandits.Uniform")  # fmt: skip
    decisions, rollouts = decisions_of(run), rollouts_of(run)
    for step in range(4):
        own = [d for d in decisions if d["step"] == step]
        assert len({d["category"] for d in own}) == len(own)
        assert sum(len(d["prompt_ids"]) for d in own) == 4
        for d in own:
            assert {rollouts[id_]["category"] for id_ in d["prompt_ids"]} == {d["category"]}
    assert any(len(d["prompt_ids"]) > 1 for d in decisions)
    assert len({d["arm"] for d in decisions}) > 1


def test_trusted_check_asks_all_about_some(fit: Fit, tmp_path: Path) -> None:
    """Its forwards are counted: each prompt's judge once, and all K once more for prompts that can tell."""
    run = fit(tmp_path, "--selection.signal=laser_pl.feedback.signals.Trusted", "--selection.signal.share=1",
              "--selection.granularity=prompt")  # fmt: skip
    decisions, rollouts = decisions_of(run), rollouts_of(run)
    train = (WORLD / "prompts" / "train.jsonl").read_text().splitlines()
    answers = {row["prompt"]: row["answer"] for row in map(json.loads, train)}
    checked = 0
    for d in decisions:
        row = rollouts[d["prompt_ids"][0]]
        right = [response.strip() == answers[row["text"]] for response in row["responses"]]
        # No step, no lesson: a batch without any pair is skipped as a whole, but none is here.
        assert bool(d["observed"]) == (any(right) and not all(right))
        checked += bool(d["observed"])
    assert checked > 0
    names = run.selector.arms
    assert sum(run.summary["reward_model_forwards"].values()) == 16 * 6 + checked * len(names) * 6
    assert run.summary["reward_model_forwards_avoided"] == 16 * 6 * len(names) - 16 * 6 - checked * len(names) * 6


@pytest.fixture
def reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A reward model that is of no use in every second batch, or in each: the argument that makes it the only arm."""
    kind, every = request.param
    (tmp_path / f"{kind}_{every}.py").write_text(
        "calls = []\n"
        "def judge(prompts, completions, **columns):\n"
        "    calls.append(1)\n"
        f"    if len(calls) % {every}:\n"
        "        return [sum(map(ord, completion)) / 7 for completion in completions]\n"
        "    first = [prompt not in prompts[:i] for i, prompt in enumerate(prompts)]\n"
        "    return {'tied': [1.5] * len(first), 'missing': [None] * len(first),\n"
        f"            'single': [1.0 if f else None for f in first]}}['{kind}']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"{kind}_{every}.judge"}}
    return f"--selection.reward_models={json.dumps({'odd': spec})}"


@pytest.mark.parametrize("reward", [("tied", 2), ("missing", 2), ("single", 2)], indirect=True)
def test_batch_without_pairs_teaches_the_bandit_that_its_judge_told_nothing_apart(
    fit: Fit, tmp_path: Path, reward: str
) -> None:
    """Every second batch has only equal scores, or none, or one score per prompt."""
    run = fit(tmp_path, reward)
    decisions = decisions_of(run)
    assert len(decisions) == run.summary["steps"] == 4
    assert run.summary["steps_without_pairs"] == 2
    for d in decisions[1::2]:
        assert (d["pairs"], d["prompts_without_pairs"]) == (0, 4)
        assert d["loss"] is None
        assert d["observed"]["odd"] < -math.log(2)  # by chance: ln 2 and the mean NLL of the responses
        assert list(d["reward"]) == ["odd"]
    for d in decisions[::2]:
        assert d["pairs"] > 0
        assert math.isfinite(d["loss"])
        assert list(d["reward"]) == ["odd"]
    (model,) = run.selector.bandit.models
    learned = model.precision - torch.eye(len(model.precision), dtype=torch.float64)
    assert torch.linalg.matrix_rank(learned) == 4


@pytest.mark.parametrize("reward", [("tied", 1), ("missing", 1)], indirect=True)
def test_batch_without_pairs_leaves_the_policy_alone(fit: Fit, tmp_path: Path, reward: str) -> None:
    """Not even weight decay touches it."""
    run = fit(tmp_path, reward, "--optimizer.weight_decay=0.5")
    assert run.summary["steps_without_pairs"] == run.summary["steps"] == 4
    trained = {name: p for name, p in run.model.named_parameters() if p.requires_grad}
    assert not any(bool(p.any()) for name, p in trained.items() if "lora_B" in name)
    run.model.language_model = None
    run.model.configure_model()
    for name, fresh in run.model.named_parameters():
        if fresh.requires_grad:
            assert torch.equal(trained[name], fresh)


@pytest.mark.parametrize("pairing", ["RandomPairs", "BestWorst", "TopBottom"])
def test_pairs_stay_within_their_number(fit: Fit, tmp_path: Path, pairing: str) -> None:
    run = fit(tmp_path, f"--selection.pairs=laser_pl.data.pairs.{pairing}", "--selection.pairs.per_prompt=2",
              "--selection.granularity=prompt")  # fmt: skip
    rollouts = rollouts_of(run)
    for d in decisions_of(run):
        distinct = len(set(rollouts[d["prompt_ids"][0]]["responses"]))
        possible = {"RandomPairs": math.comb(distinct, 2), "BestWorst": distinct - 1, "TopBottom": distinct // 2}
        assert d["pairs"] <= min(2, possible[pairing])
        assert d["prompts_without_pairs"] == (d["pairs"] == 0)
