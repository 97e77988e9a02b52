"""Reward models of every kind as arms, loaded when they are first chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.runs import Fit, decisions_of

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two steps."""
    return ["--data.prompts_per_iteration=8"]


def arms(**reward_models: tuple[str, dict[str, Any]]) -> str:
    """The argument that sets the reward models: name to class and arguments."""
    specs = {name: {"class_path": f"laser_pl.rewards.{kind}", "init_args": init_args}
             for name, (kind, init_args) in reward_models.items()}  # fmt: skip
    return f"--selection.reward_models={json.dumps(specs)}"


def weights(name: str) -> dict[str, Any]:
    return {"weights": {"name": str(WORLD / name)}}


def test_arm_never_chosen_is_never_loaded(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, "--selection.bandit=Fixed", "--selection.bandit.arm=mirror")
    pool = run.selector.pool
    assert pool.memory.held == ["mirror"]
    assert {name for name, count in pool.forwards.items() if count} == {"mirror"}
    assert [name for name in pool.names if pool.reward_models[name]._model is not None] == ["mirror"]
    assert run.summary["reward_model_forwards"]["mirror"] == 8 * 6
    assert {d["arm"] for d in decisions_of(run)} == {"mirror"}


def test_arms_of_three_kinds_take_turns(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "seen = []\n"
        "def length(prompts, completions, category, answer, **rest):\n"
        "    seen.append((prompts, completions, category, answer, sorted(rest)))\n"
        "    return [float(len(c)) for c in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mixed = arms(
        short=("FunctionReward", {"function": "my_rewards.length"}),
        likely=("Likelihood", weights("policy")),
        judge=("SequenceClassifier", weights("reward_models/general")),
    )
    run = fit(tmp_path, mixed, "--selection.bandit=RoundRobin", "--data.prompts_per_iteration=12")
    assert [d["arm"] for d in decisions_of(run)] == ["short", "likely", "judge"]
    assert run.summary["reward_model_forwards"] == {"short": 24, "likely": 24, "judge": 24}
    function = run.selector.pool.reward_models["short"].function
    ((prompts, completions, category, answer, rest),) = function.__globals__["seen"]
    assert len(prompts) == len(completions) == len(category) == len(answer) == 4 * 6
    assert rest == ["completion_ids", "log_extra", "log_metric", "trainer_state"]
    train = [json.loads(line) for line in (WORLD / "prompts" / "train.jsonl").read_text().splitlines()]
    known = {row["prompt"]: (row["answer"], row["category"]) for row in train}
    assert [known[prompt] for prompt in prompts] == list(zip(answer, category, strict=True))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_likelihood_prefers_what_its_model_finds_likely(fit: Fit, tmp_path: Path, reduction: str) -> None:
    """The first batch's preferences are those of the same sums made by hand."""
    spec = {**weights("policy"), "reduction": reduction}
    best = ["--selection.pairs=BestWorst", "--selection.pairs.per_prompt=1", "--selection.granularity=prompt"]
    run = fit(tmp_path, arms(likely=("Likelihood", spec)), *best, "--selection.signal=laser_pl.feedback.signals.Gap",
              "--selection.normalizer=laser_pl.feedback.normalizers.Raw", "--data.prompts_per_iteration=4")  # fmt: skip
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(WORLD / "policy"),
        AutoTokenizer.from_pretrained(WORLD / "policy"),
    )
    (path,) = (run.folder.path / "rollouts").rglob("*.parquet")
    gaps, squares, count = {}, 0.0, 0
    for row in pq.read_table(path).to_pylist():
        prompt, scores = tokenizer(row["text"])["input_ids"], []
        for text in row["responses"]:
            response = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
            with torch.no_grad():
                logprobs = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            each = logprobs.gather(1, torch.tensor(response)[:, None])
            scores.append(float(each.mean() if reduction == "mean" else each.sum()))
        gaps[row["prompt_id"]] = max(scores) - min(scores)
        mean = sum(scores) / len(scores)
        squares += sum((score - mean) ** 2 for score in scores)
        count += len(scores)
    spread = (squares / count) ** 0.5
    observed = {d["prompt_ids"][0]: d["observed"]["likely"] for d in decisions_of(run) if d["pairs"]}
    assert len(observed) >= 2
    assert observed == {id_: pytest.approx(gaps[id_] / spread, rel=1e-3) for id_ in observed}


def test_quantised_reward_model_scores(fit: Fit, tmp_path: Path) -> None:
    spec = {"weights": {"name": str(WORLD / "reward_models" / "general"), "quantization": "nf4"}}
    run = fit(tmp_path, arms(general=("SequenceClassifier", spec)))
    assert run.selector.pool.reward_models["general"]._model.is_quantized
    assert all(d["pairs"] > 0 for d in decisions_of(run))


def test_function_of_another_length_is_named(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one_for_all_rewards.py").write_text("def one(prompts, completions, **columns):\n    return [1.0]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, arms(one=("FunctionReward", {"function": "one_for_all_rewards.one"})))
    assert end.value.code == 2
    assert "one returned 1 values for 24 responses" in capsys.readouterr().err
