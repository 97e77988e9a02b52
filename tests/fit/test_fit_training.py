"""How the policy is trained: weights, memory savers, optimizers and schedules, all by configuration."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from lightning.pytorch import LightningModule
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from laser_pl.commands.cli import LaserCLI
from laser_pl.data.rollout_store import RolloutStore
from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.modes import recomputes
from laser_pl.policy.policy import Policy
from laser_pl.training.optimizers import check_optimizers
from tests.runs import Fit

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two steps."""
    return ["--data.prompts_per_iteration=8"]


def adapter_of(run: LaserCLI) -> dict[str, Tensor]:
    return load_file(run.folder.adapter / "adapter_model.safetensors")


def moved(adapter: dict[str, Tensor]) -> bool:
    """B starts at zero, so it tells whether anything was trained."""
    return all(bool(t.isfinite().all()) and bool(t.any()) for name, t in adapter.items() if "lora_B" in name)


def losses_of(run: LaserCLI) -> list[float]:
    with run.folder.metrics.open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.parametrize(
    ("quantization", "layer"), [("nf4", bitsandbytes.nn.Linear4bit), ("int8", bitsandbytes.nn.Linear8bitLt)]
)
def test_quantised_policy_trains(fit: Fit, tmp_path: Path, quantization: str, layer: type) -> None:
    run = fit(tmp_path, f"--model.weights.quantization={quantization}", "--model.weights.dtype=float32")
    base = run.model.model.get_base_model()
    assert isinstance(base.model.layers[0].self_attn.q_proj.base_layer, layer)
    assert moved(adapter_of(run))
    assert {tensor.dtype for tensor in adapter_of(run).values()} == {torch.float32}
    losses = losses_of(run)
    assert len(losses) == 2
    # Quantised kernels may round otherwise for other batch shapes, so the first DPO loss is near ln 2, not at it.
    assert all(math.log(2) - 0.3 < loss < math.log(2) + 5 for loss in losses)


def test_a_run_keeps_the_policy_where_it_is_and_uses_kernels_for_any_shape(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a card Lightning would carry it to the host's memory after each stage, and cuDNN prepare for each shape."""
    moved_away: list[LightningModule] = []
    monkeypatch.setattr(LightningModule, "cpu", lambda self: moved_away.append(self) or self)
    prepared: list[bool] = []
    step = Policy.training_step

    def noting(self: Policy, *rest: Any) -> Any:
        prepared.append(torch.backends.cuda.cudnn_sdp_enabled())
        return step(self, *rest)

    monkeypatch.setattr(Policy, "training_step", noting)
    run = fit(tmp_path)
    assert (moved_away, prepared) == ([], [False, False])
    assert torch.backends.cuda.cudnn_sdp_enabled()  # as it was before
    assert run.model.cpu() is run.model
    assert moved_away == [run.model]


def test_bfloat16_policy_keeps_its_adapter_in_float32(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, "--model.weights.dtype=bfloat16")
    assert run.model.model.get_base_model().lm_head.weight.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in adapter_of(run).values()} == {torch.float32}
    assert moved(adapter_of(run))


def test_mixed_precision_is_the_trainers(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, "--trainer.precision=bf16-mixed")
    assert run.model.model.get_base_model().lm_head.weight.dtype == torch.float32
    assert moved(adapter_of(run))


@pytest.mark.parametrize(("dropout", "share"), [(0.0, "true"), (0.2, "false")])
def test_gradient_checkpointing_changes_no_gradient(fit: Fit, tmp_path: Path, dropout: float, share: str) -> None:
    """With plain gradient descent the adapter after two steps shows both gradients; dropout is repeated too.

    Checkpointing gives every response a prompt of its own, and a shared prompt has other dropout masks.
    """
    common = ["--optimizer=torch.optim.SGD", "--optimizer.lr=0.1", f"--model.lora.dropout={dropout}"]
    plain = fit(tmp_path / "plain", *common, f"--model.share_prompts={share}")
    saving = fit(tmp_path / "saving", *common, "--model.gradient_checkpointing=true")
    assert recomputes(saving.model.model)
    assert not recomputes(plain.model.model)
    assert moved(adapter_of(plain))
    for name, tensor in adapter_of(plain).items():
        torch.testing.assert_close(adapter_of(saving)[name], tensor, atol=1e-6, rtol=1e-5)


def test_an_optimizer_that_takes_only_matrices_is_taken() -> None:
    """As torch.optim.Muon: an adapter has nothing else."""

    def of_matrices(parameters: Any) -> torch.optim.Optimizer:
        parameters = list(parameters)
        assert all(parameter.ndim == 2 for parameter in parameters)
        return torch.optim.SGD(parameters, lr=0.1)

    check_optimizers(of_matrices, None)


def test_optimizer_by_configuration(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, "--optimizer=bitsandbytes.optim.AdamW8bit", "--optimizer.lr=0.001")
    (optimizer,) = run.trainer.optimizers
    assert isinstance(getattr(optimizer, "optimizer", optimizer), bitsandbytes.optim.AdamW8bit)
    assert optimizer.param_groups[0]["lr"] == 0.001
    assert moved(adapter_of(run))


def test_schedule_by_configuration(fit: Fit, tmp_path: Path) -> None:
    """Stepped every training step, not every iteration."""
    schedule = ["--lr_scheduler=torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size=1",
                "--lr_scheduler.gamma=0.1"]  # fmt: skip
    run = fit(tmp_path, *schedule, "--optimizer.lr=0.01")
    assert run.trainer.global_step == 2
    assert run.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**2)


def test_only_the_adapter_is_trained(fit: Fit, tmp_path: Path) -> None:
    """Base weights stay as they were saved, bit for bit, and only named layers have an adapter."""
    run = fit(tmp_path, "--model.lora.targets=[q_proj, v_proj]", "--model.lora.rank=3")
    saved = AutoModelForCausalLM.from_pretrained(WORLD / "policy").state_dict()
    for name, tensor in run.model.model.get_base_model().state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, saved[name.replace(".base_layer", "")])
    adapter = adapter_of(run)
    assert {name.split(".")[-3] for name in adapter} == {"q_proj", "v_proj"}
    assert len(adapter) == 2 * 2 * run.model.model.config.num_hidden_layers
    assert all(3 in tensor.shape for tensor in adapter.values())


def test_a_schedule_that_waits_for_a_metric(fit: Fit, tmp_path: Path) -> None:
    metric = "validation/accuracy/sampled/average"
    run = fit(tmp_path, "--lr_scheduler=ReduceLROnPlateau", f"--lr_scheduler.monitor={metric}")
    assert run.trainer.lr_scheduler_configs[0].monitor == metric


def test_no_rollouts_are_made_for_batches_that_are_not_trained(fit: Fit, tmp_path: Path) -> None:
    # Two, since the oldest Lightning may take a 1 from the command line for 1.0, which is all.
    run = fit(tmp_path, "--trainer.limit_train_batches=2", "--data.batch_size=2")
    assert len(run.datamodule.plan(0)) > 2 == len(run.datamodule.train_dataloader())


def test_rollouts_of_another_run_are_not_trained_on(fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path)
    (run.folder.path / "rollouts" / "iteration-000").rename(run.folder.path / "rollouts" / "iteration-001")
    with pytest.raises(ConfigurationError, match=r"iteration-001 holds the rollouts of another run.*default_root_dir"):
        run.datamodule.train_dataloader()


def test_reference_logprobs_do_not_depend_on_how_rollouts_are_cut_into_forwards(fit: Fit, tmp_path: Path) -> None:
    whole = RolloutStore(fit(tmp_path, "--name=whole").folder.path / "rollouts" / "iteration-000").read(0)
    few = "--model.tokens_per_forward=50"
    parts = RolloutStore(fit(tmp_path, "--name=parts", few).folder.path / "rollouts" / "iteration-000").read(0)
    assert whole
    assert parts
    for one, other in zip(whole, parts, strict=True):
        assert one["tokens"] == other["tokens"]
        assert one["reference_logprobs"] == pytest.approx(other["reference_logprobs"], abs=1e-4)
