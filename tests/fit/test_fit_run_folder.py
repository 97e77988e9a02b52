"""What a run leaves behind is complete, consistent, and can be used without this package."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.report.model_card import model_card
from laser_pl.report.records import read_records
from tests.runs import Fit, decisions_of

POLICY = Path(__file__).resolve().parents[2] / "experiments" / "quickstart" / "policy"
ARMS = ["numbers", "sorter", "mirror", "general", "longer"]


@pytest.fixture(scope="module")
def run(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    """Two iterations of three steps, their rollouts in two chunks."""
    return fit(tmp_path_factory.mktemp("run"), "--trainer.max_epochs=2", "--model.evaluation.n=2",
               "--data.prompts_per_iteration=12", "--data.rollout_batch_size=8", "--data.rollouts.n=4",
               evaluated=8)  # fmt: skip


def metrics_of(run: LaserCLI, column: str) -> list[float]:
    with run.folder.metrics.open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def rollouts_of(run: LaserCLI, iteration: int) -> list[dict[str, Any]]:
    folder = run.folder.path / "rollouts" / f"iteration-{iteration:03d}"
    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


def test_folder_holds_every_record(run: LaserCLI) -> None:
    files = {"config.yaml", "metrics.csv", "selection.jsonl", "summary.json"}
    assert files | {"rollouts", "checkpoints", "adapter"} <= {path.name for path in run.folder.path.iterdir()}
    assert [path.name for path in (run.folder.path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert not list(run.folder.path.rglob("*.tmp"))


def test_its_config_starts_the_same_run_again(run: LaserCLI) -> None:
    again = main(["fit", f"--config={run.folder.config}"])
    assert again.folder.path.name == "small-2"
    before, after = decisions_of(run), decisions_of(again)
    for decision in (*before, *after):
        del decision["reward_model_seconds"]
    assert after == before
    assert metrics_of(again, "train/loss") == metrics_of(run, "train/loss")
    assert again.summary["accuracy"] == run.summary["accuracy"]


def test_metrics_hold_every_step_and_every_validation(run: LaserCLI) -> None:
    steps = len(decisions_of(run))
    assert len(metrics_of(run, "train/loss")) == len(metrics_of(run, "train/pairs")) == steps
    assert len(metrics_of(run, "validation/accuracy/sampled/average")) == run.summary["iterations"] == 2
    sampled = metrics_of(run, "test/accuracy/sampled/average")
    assert sampled == [run.summary["accuracy"][when]["average"] for when in ("before", "after")]
    assert all(sum(row) == 1 for row in zip(*(metrics_of(run, f"selection/{arm}") for arm in ARMS), strict=True))


def test_selection_says_what_was_chosen_and_why(run: LaserCLI) -> None:
    decisions = decisions_of(run)
    assert [(decision["iteration"], decision["step"]) for decision in decisions] == [
        (0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5)
    ]  # fmt: skip
    category_of = {row["prompt_id"]: row["category"] for row in [*rollouts_of(run, 0), *rollouts_of(run, 1)]}
    for decision in decisions:
        assert list(decision["mean"]) == list(decision["bonus"]) == ARMS
        bounds = {arm: decision["mean"][arm] + decision["bonus"][arm] for arm in ARMS}
        assert bounds[decision["arm"]] == max(bounds.values())
        categories = {category_of[id_] for id_ in decision["prompt_ids"]}
        assert decision["category"] == (categories.pop() if len(categories) == 1 else None)
        assert len(decision["prompt_ids"]) == 4
        assert 0 < decision["pairs"] <= 4 * 4
        assert 0 <= decision["prompts_without_pairs"] < 4
        assert decision["loss"] == pytest.approx(decision["dpo"] + decision["nll"], rel=1e-6)  # nll_weight is 1
        assert list(decision["observed"]) == list(decision["reward"]) == [decision["arm"]]
        assert -1 <= decision["reward"][decision["arm"]] <= 1
        assert decision["reward_model_seconds"] > 0


def test_every_prompt_is_used_in_the_iteration_that_sampled_it(run: LaserCLI) -> None:
    decisions = decisions_of(run)
    for iteration in (0, 1):
        sampled = [row["prompt_id"] for row in rollouts_of(run, iteration)]
        used = [id_ for decision in decisions if decision["iteration"] == iteration for id_ in decision["prompt_ids"]]
        assert len(set(sampled)) == 12
        assert used == sampled


def test_rollouts_can_be_computed_again_without_this_package(run: LaserCLI) -> None:
    """The first iteration's policy is the base, since a fresh adapter changes nothing."""
    policy, tokenizer = AutoModelForCausalLM.from_pretrained(POLICY), AutoTokenizer.from_pretrained(POLICY)
    for row in rollouts_of(run, 0):
        prompt = tokenizer(row["text"])["input_ids"]
        for text, tokens, finished, logprob in zip(
            row["responses"], row["tokens"], row["finished"], row["reference_logprobs"], strict=True
        ):
            assert tokenizer.decode(tokens, skip_special_tokens=True) == text
            assert finished == (tokens[-1] == tokenizer.eos_token_id)
            assert tokenizer.pad_token_id not in tokens
            with torch.no_grad():
                output = policy(torch.tensor([prompt + tokens]), output_hidden_states=True)
            predicted = output.logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            assert logprob == pytest.approx(float(predicted.gather(1, torch.tensor(tokens)[:, None]).sum()), abs=1e-4)
            hidden = output.hidden_states[-1][0, len(prompt) - 1]
            torch.testing.assert_close(torch.tensor(row["context"]), hidden, atol=1e-4, rtol=1e-4)


def test_adapter_loads_with_peft_alone(run: LaserCLI) -> None:
    plain = AutoModelForCausalLM.from_pretrained(POLICY)
    tokens = torch.randint(2, plain.config.vocab_size, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        untrained = plain.eval()(tokens).logits
        adapted = PeftModel.from_pretrained(plain, run.folder.adapter).eval()(tokens).logits
        trained = run.model.model.eval()(tokens).logits
    assert torch.equal(adapted, trained)
    assert not torch.allclose(adapted, untrained, atol=1e-3)


def test_adapter_merges_into_a_model_that_needs_no_adapter(run: LaserCLI, tmp_path: Path) -> None:
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(POLICY), run.folder.adapter)
    adapted.merge_and_unload().save_pretrained(tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.randint(2, merged.config.vocab_size, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(merged(tokens).logits, run.model.model.eval()(tokens).logits, atol=1e-4, rtol=1e-4)


def test_adapter_has_a_card_with_the_final_numbers(run: LaserCLI) -> None:
    card = (run.folder.adapter / "README.md").read_text(encoding="utf-8")
    assert card == model_card(read_records(run.folder.path))
    before, after = (run.summary["accuracy"][when]["average"] for when in ("before", "after"))
    assert f"| average | {before:.3f} | {after:.3f} |" in card


def test_summary_adds_up(run: LaserCLI) -> None:
    summary = json.loads(run.folder.summary.read_text())
    assert summary == run.summary
    decisions = decisions_of(run)
    assert summary["iterations"] == 2
    assert summary["steps"] == len(decisions)
    assert summary["steps_without_pairs"] == 0
    seconds = summary["seconds"]
    assert set(seconds) == {"rollouts", "scoring", "steps", "validation", "other", "total"}
    assert min(seconds.values()) > 0
    assert math.isclose(sum(seconds.values()), 2 * seconds["total"])
    judged = 2 * 12 * 4
    forwards = summary["reward_model_forwards"]
    assert sum(forwards.values()) == judged
    assert summary["reward_model_forwards_avoided"] + judged == judged * len(ARMS)
    for arm in ARMS:
        assert forwards[arm] == 4 * sum(len(d["prompt_ids"]) for d in decisions if d["arm"] == arm)
    judges = {(d["iteration"], id_): d["arm"] for d in decisions for id_ in d["prompt_ids"]}
    for category, shares in summary["arm_share"].items():
        assert sum(shares.values()) == pytest.approx(1)
        own = [
            judges[iteration, row["prompt_id"]]
            for iteration in (0, 1)
            for row in rollouts_of(run, iteration)
            if row["category"] == category
        ]
        assert shares == {arm: pytest.approx(own.count(arm) / len(own)) for arm in ARMS}
    assert set(summary["accuracy"]) == {"before", "after"}
    for accuracy in summary["accuracy"].values():
        average = accuracy.pop("average")
        assert average == pytest.approx(sum(accuracy.values()) / len(accuracy))
    assert summary["config"] == str(run.folder.config)
    assert {"laser_pl", "python", "torch", "transformers", "peft", "lightning"} <= summary["versions"].keys()


def test_only_reward_models_that_were_chosen_are_loaded(run: LaserCLI) -> None:
    used = {decision["arm"] for decision in decisions_of(run)}
    assert set(run.selector.pool.memory.held) == used


def test_a_run_that_ends_before_its_configuration_is_there_leaves_no_folder(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which nobody could resume."""

    def ends(command: LaserCLI) -> str:
        raise RuntimeError("the plug was pulled")

    monkeypatch.setattr(LaserCLI, "_resolved", ends)
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path)
    assert not (tmp_path / "runs" / "small").exists()
