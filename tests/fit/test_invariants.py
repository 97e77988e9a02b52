"""What must hold whatever the models, the data and the settings."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from laser_pl.commands.cli import LaserCLI
from laser_pl.logprobs.padded import response_logprobs
from tests.runs import Fit, decisions_of

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"


def arms(*names: str) -> str:
    """The argument that sets the reward models, in this order."""

    def classifier(name: str) -> dict[str, Any]:
        weights = {"name": str(WORLD / "reward_models" / name)}
        return {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": {"weights": weights}}

    return f"--selection.reward_models={json.dumps({name: classifier(name) for name in names})}"


def adapter_of(run: LaserCLI) -> dict[str, Tensor]:
    return load_file(run.folder.adapter / "adapter_model.safetensors")


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_first_loss_of_every_iteration_is_ln_2(fit: Fit, tmp_path: Path, beta: float) -> None:
    """The reference is the policy itself then; afterwards it is not."""
    signal = "--selection.signal=laser_pl.feedback.signals.Gap"
    run = fit(tmp_path, f"--model.beta={beta}", "--model.nll_weight=0", signal, "--trainer.max_epochs=3")
    losses: dict[int, list[float]] = {}
    for decision in decisions_of(run):
        assert decision["loss"] == decision["dpo"]
        losses.setdefault(decision["iteration"], []).append(decision["loss"])
    assert len(losses) == 3
    for first, *others in losses.values():
        assert first == pytest.approx(math.log(2), abs=1e-5)
        assert max(abs(other - math.log(2)) for other in others) > 1e-4


def test_one_arm_is_plain_iterative_dpo(fit: Fit, tmp_path: Path) -> None:
    """With nothing to choose from, a bandit that learns and one that does not train the same policy, bitwise."""
    bandits = ("laser_pl.bandits.Fixed", "laser_pl.bandits.LinUCB")
    plain, routed = (
        fit(tmp_path / bandit, arms("general"), f"--selection.bandit={bandit}", "--trainer.max_epochs=2")
        for bandit in bandits
    )
    assert any(any(decision["mean"].values()) for decision in decisions_of(routed))
    assert [d["loss"] for d in decisions_of(routed)] == [d["loss"] for d in decisions_of(plain)]
    before, after = adapter_of(plain), adapter_of(routed)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_batch_equals_its_micro_batches_accumulated(fit: Fit, tmp_path: Path) -> None:
    """Plain gradient descent, so that the step is the gradient; float64, so that rounding is out of sight."""
    common = [
        "--selection.bandit=laser_pl.bandits.Fixed",
        "--selection.normalizer=laser_pl.feedback.normalizers.Raw",
        "--selection.granularity=prompt",
        "--optimizer=torch.optim.SGD",
        "--optimizer.lr=1.0",
        "--model.weights.dtype=float64",
        "--data.prompts_per_iteration=8",
        "--data.rollouts.n=10",
    ]
    whole = fit(tmp_path / "whole", *common, "--data.batch_size=8")
    parts = fit(tmp_path / "parts", *common, "--data.batch_size=4", "--trainer.accumulate_grad_batches=2")
    assert (whole.trainer.global_step, parts.trainer.global_step) == (1, 1)
    rewards = [{d["prompt_ids"][0]: d["reward"]["numbers"] for d in decisions_of(run)} for run in (whole, parts)]
    assert len(rewards[0]) == 8  # every prompt has pairs, or the means would be over different counts
    assert rewards[1] == pytest.approx(rewards[0], abs=1e-6)
    assert len(set(rewards[0].values())) == 8
    before, after = adapter_of(whole), adapter_of(parts)
    assert max(float(tensor.abs().max()) for name, tensor in before.items() if "lora_B" in name) > 1e-3
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=1e-5)


def test_without_its_adapter_the_policy_is_the_base(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(WORLD / "policy").eval()
    tokens = torch.randint(2, base.config.vocab_size, (4, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = base(tokens).logits
        assert not torch.equal(run.model.model.eval()(tokens).logits, expected)
        with run.model.model.disable_adapter():
            assert torch.equal(run.model.model(tokens).logits, expected)


def test_permuting_arms_permutes_choices(fit: Fit, tmp_path: Path) -> None:
    """A trusted check asks all arms about the iteration's own samples, so what it says depends on no choice.

    Means and bonuses must then be the same by name, whatever the arms' order, and so must every choice without a tie.
    """
    order: Sequence[str] = ("numbers", "sorter", "mirror", "general")
    trusted = ["--selection.signal=laser_pl.feedback.signals.Trusted", "--selection.signal.share=1"]
    more = ["--data.prompts_per_iteration=40"]
    runs = [fit(tmp_path / names[0], arms(*names), *trusted, *more) for names in (order, (*order[2:], *order[:2]))]
    compared = 0
    for one, other in zip(*map(decisions_of, runs), strict=True):
        assert list(other["mean"]) == [*list(one["mean"])[2:], *list(one["mean"])[:2]]
        for part in ("mean", "bonus"):
            assert other[part] == pytest.approx(one[part], abs=1e-9)
        bounds = sorted(one["mean"][name] + one["bonus"][name] for name in order)
        if bounds[-1] - bounds[-2] > 1e-6:
            compared += 1
            assert other["arm"] == one["arm"]
    assert compared >= 3


def test_padding_changes_no_log_probability() -> None:
    """Prompts are padded on the left and responses on the right; both leave every row as it is alone."""
    tokenizer = AutoTokenizer.from_pretrained(WORLD / "policy")
    model = AutoModelForCausalLM.from_pretrained(WORLD / "policy", dtype=torch.float64)
    texts = [("A 12+ 7=", "19"), ("=", "abcdef"), ("S dbcae=", "a"), ("C 7=", "12345678")]
    ids = [[tokenizer(text)["input_ids"] for text in pair] for pair in texts]
    heads, tails = (max(len(pair[side]) for pair in ids) for side in (0, 1))

    def padded(rows: list[list[int]], width: int, left: bool) -> tuple[Tensor, Tensor]:
        fill = [[7] * (width - len(row)) for row in rows]  # a real token: only the mask may tell
        tokens = [f + row if left else row + f for f, row in zip(fill, rows, strict=True)]
        masks = [[0] * len(f) + [1] * len(row) for f, row in zip(fill, rows, strict=True)]
        return torch.tensor(tokens), torch.tensor(masks if left else [mask[::-1] for mask in masks])

    prompts, responses = [pair[0] for pair in ids], [pair[1] for pair in ids]
    with torch.no_grad():
        together = response_logprobs(model, *padded(prompts, heads + 3, True), *padded(responses, tails + 3, False))
        for row, (prompt, response) in enumerate(ids):
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            alone = logits.gather(1, torch.tensor(response)[:, None]).sum()
            # transformers normalises in float32 even in a float64 model
            torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-6)


def test_logged_loss_is_what_the_bandit_observed(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, "--trainer.max_epochs=2")
    with run.folder.metrics.open(newline="") as file:
        logged = {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]}
    observed = {d["step"]: d["observed"][d["arm"]] for d in decisions_of(run)}
    assert len(observed) == 8
    assert logged == {step: pytest.approx(-value, rel=1e-6) for step, value in observed.items()}


def test_only_context_of_an_iteration_says_nothing(fit: Fit, tmp_path: Path) -> None:
    """Where one batch is all there is to centre on, only the constant is left, not rounding blown up to norm 1."""
    (only,) = decisions_of(fit(tmp_path, "--data.prompts_per_iteration=4", "--selection.bandit.alpha=0.7"))
    assert list(only["bonus"].values()) == pytest.approx([0.7 * 0.3] * 5, abs=1e-9)


@pytest.mark.parametrize(
    ("nll_weight", "signal", "warned"),
    [("0", "Loss", True), ("0", "Nll", False), ("0.5", "Loss", False)],
)
def test_learning_from_dpo_alone_is_warned_of(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture, nll_weight: str, signal: str, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        fit(tmp_path, f"--model.nll_weight={nll_weight}", f"--selection.signal=laser_pl.feedback.signals.{signal}",
            "--data.prompts_per_iteration=4")  # fmt: skip
    assert any("ln 2" in record.message for record in caplog.records) == warned
