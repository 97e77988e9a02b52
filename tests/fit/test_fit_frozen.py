"""A frozen policy: rollouts, choice, scores and the bandit go on as ever, and no weight moves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from laser_pl.commands.cli import LaserCLI
from laser_pl.data.rollout_store import RolloutStore
from laser_pl.logprobs.logprob_model import LogprobModel
from laser_pl.run.state import digest, run_state
from tests.runs import Fit


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two iterations of four batches; with dropout, which the stored log-probabilities know nothing of."""
    return [
        "--model.objective=laser_pl.objectives.Frozen", "--trainer.max_epochs=2",
        "--model.lora.dropout=0.1", "--checkpoint_every=3",
        "--selection.signal=laser_pl.feedback.signals.Nll",
        "--selection.pairs=laser_pl.data.pairs.BestWorst", "--selection.pairs.per_prompt=1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def frozen(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    return fit(tmp_path_factory.mktemp("frozen"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_no_weight_moves(frozen: LaserCLI) -> None:
    adapter = load_file(frozen.folder.adapter / "adapter_model.safetensors")
    assert all(bool((tensor == 0).all()) for name, tensor in adapter.items() if "lora_B" in name)
    assert all(not state["state"] for state in torch.load(frozen.folder.checkpoint)["optimizer_states"])
    assert frozen.summary["accuracy"]["before"] == frozen.summary["accuracy"]["after"]


def test_the_bandit_learns_from_the_likelihood_of_the_best_response(frozen: LaserCLI) -> None:
    chosen = {(line["iteration"], line["prompt_id"]): [c for c, _ in line["pairs"]] for line in
              lines(frozen.folder.pairs)}  # fmt: skip
    best: dict[tuple[int, str], float] = {}
    for iteration in range(2):
        for row in RolloutStore(frozen.folder.rollouts(iteration)).read(0):
            key = iteration, row["prompt_id"]
            if chosen[key]:
                (place,) = chosen[key]
                best[key] = -row["reference_logprobs"][place] / len(row["tokens"][place])
    decisions = lines(frozen.folder.selection)
    assert len(decisions) == 8
    for decision in decisions:
        own = [best[key] for id_ in decision["prompt_ids"] if (key := (decision["iteration"], id_)) in best]
        assert decision["nll"] == pytest.approx(sum(own) / len(own), rel=1e-9)
        assert decision["dpo"] == pytest.approx(math.log(2), rel=1e-12)
        assert decision["observed"] == {decision["arm"]: pytest.approx(-decision["nll"], rel=1e-9)}
        assert list(decision["reward"]) == [decision["arm"]]
    assert decisions[-1]["mean"] != decisions[0]["mean"]


def test_responses_are_not_read_again(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a frozen policy was read in a step")

    monkeypatch.setattr(LogprobModel, "group_logprobs", refuse)
    with pytest.raises(AssertionError, match="was read in a step"):  # rollouts read with another method
        fit(tmp_path / "moving", "--model.objective=null")
    assert fit(tmp_path / "frozen").summary["steps"] == 8


@pytest.mark.parametrize("after", [1, 5])
def test_resumed_is_uninterrupted(
    after: int, frozen: LaserCLI, fit: Fit, tmp_path: Path, plug: Callable[..., str]
) -> None:
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path, plug("on_train_batch_end", after))
    resumed = fit(tmp_path, "--resume")
    assert digest(run_state(resumed.folder)) == digest(run_state(frozen.folder))
