"""The engine slot: whatever a run answers, it is the configured engine that samples it, with the policy as it is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from laser_pl.batches import PromptBatch, Responses
from laser_pl.commands.cli import LaserCLI, main
from laser_pl.generation import RolloutEngine, Sampling, TransformersEngine
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.training.adapter import as_started
from laser_pl.winrate.command import main as winrate
from tests.runs import Fit, decisions_of


def longer(prompts: list[Any], completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


PUBLISHED, ANSWERED = "published", "answered"


class Watched(TransformersEngine):
    """Notes what it is asked for, and with which adapter."""

    seen: ClassVar[list[tuple[str, int, float]]] = []

    def publish(self, model: Any, tokenizer: Any, processes: ProcessGroup) -> None:
        super().publish(model, tokenizer, processes)
        self.adapter = float(sum(p.detach().double().abs().sum() for p in model.parameters() if p.requires_grad))
        self.seen.append((PUBLISHED, 0, self.adapter))

    def respond(self, prompts: PromptBatch, sampling: Sampling, seed: int) -> Responses:
        self.seen.append((ANSWERED, sampling.n, self.adapter))
        return super().respond(prompts, sampling, seed)


WATCHED = "--model.engine=tests.generation.test_engine.Watched"


@pytest.fixture(scope="module")
def watched(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> tuple[LaserCLI, list[tuple[str, int, float]]]:
    Watched.seen.clear()
    run = fit(
        tmp_path_factory.mktemp("watched"),
        WATCHED,
        "--trainer.max_epochs=2",
        "--model.evaluation.n=3",
        "--seed_everything=1",
    )
    return run, list(Watched.seen)


def test_every_response_of_a_fit_is_the_engines(watched: tuple[LaserCLI, list[tuple[str, int, float]]]) -> None:
    run, seen = watched
    data = run.datamodule
    chunks = -(-len([prompt for batch in data.plan(0) for prompt in batch]) // data.rollout_batch_size)
    counts = Counter(n for what, n, _ in seen if what == ANSWERED)
    assert counts[data.rollouts.n] == 2 * chunks  # iterations
    assert counts[1] == counts[3] > 0  # greedy and sampled, in validation and test
    assert set(counts) == {1, 3, data.rollouts.n}


def test_the_adapter_is_published_before_its_iteration_and_each_evaluation(
    watched: tuple[LaserCLI, list[tuple[str, int, float]]],
) -> None:
    run, seen = watched
    first, second = (
        [adapter for what, n, adapter in seen if n == run.datamodule.rollouts.n][place] for place in (0, -1)
    )
    assert first != second  # it was trained in between
    last = float(sum(p.detach().double().abs().sum() for p in run.model.parameters() if p.requires_grad))
    assert seen[-1][2] == last  # the test is of the trained policy
    assert seen[0][0] == PUBLISHED


def test_another_engine_of_the_same_responses_makes_the_same_run(
    watched: tuple[LaserCLI, list[tuple[str, int, float]]], fit: Fit, tmp_path: Path
) -> None:
    plain = fit(tmp_path, "--trainer.max_epochs=2", "--model.evaluation.n=3", "--seed_everything=1")
    here, there = (
        [{**line, "reward_model_seconds": None} for line in decisions_of(run)] for run in (plain, watched[0])
    )
    assert here == there


def test_predict_and_winrate_ask_it_too(
    watched: tuple[LaserCLI, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = watched
    monkeypatch.chdir(tmp_path)
    Watched.seen.clear()
    asked = [f"--config={run.folder.config}", f"--ckpt_path={run.folder.checkpoint}", "--out=out.jsonl", "--trust_run"]
    main(["predict", *asked])
    assert [(what, n) for what, n, _ in Watched.seen] == [(PUBLISHED, 0), (ANSWERED, run.datamodule.rollouts.n)]
    Watched.seen.clear()
    function = {"function": "tests.generation.test_engine.longer"}
    judge = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": function}
    Path("judge.yaml").write_text(json.dumps(judge))
    winrate([str(run.folder.path), "--judge=judge.yaml", "--trust_run"])
    start, trained = (adapter for what, _, adapter in Watched.seen if what == ANSWERED)
    assert [what for what, *_ in Watched.seen] == [PUBLISHED, ANSWERED] * 2
    assert trained == run.model.engine.adapter  # type: ignore[attr-defined]
    assert start == 0.0  # PEFT takes a disabled adapter's gradient away


def test_nobody_answers_before_a_policy_is_published(watched: tuple[LaserCLI, Any]) -> None:
    (batch,) = watched[0].datamodule.test_dataloader()
    with pytest.raises(RuntimeError, match="no policy to answer with yet"):
        TransformersEngine().respond(batch, Sampling(n=1), 0)


def test_in_process_it_answers_with_the_policy_as_it_is_at_that_moment(watched: tuple[LaserCLI, Any]) -> None:
    """Whoever disables the adapter gets the base's responses, without a copy of anything."""
    policy = watched[0].model
    (batch,) = watched[0].datamodule.test_dataloader()
    policy.publish()
    hot = Sampling(n=8, temperature=1.0, max_new_tokens=6)
    trained = policy.engine.respond(batch, hot, 3)
    with as_started(policy.model, policy.lora.start):
        before = policy.engine.respond(batch, hot, 3)
    assert not torch.equal(trained.tokens, before.tokens)
    assert isinstance(policy.engine, RolloutEngine)
