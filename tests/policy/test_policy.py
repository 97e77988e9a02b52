"""The policy's own promises that need no training run."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from laser_pl.data.datamodule import PreferenceData
from laser_pl.data.pairs import RandomPairs
from laser_pl.errors import ConfigurationError
from laser_pl.generation.sampling import Sampling
from laser_pl.models.language_model import Lora, Quantization, Weights
from laser_pl.policy.policy import Policy
from laser_pl.runtime.sharded_strategy import ShardedStrategy


def test_the_defaults_are_the_papers() -> None:
    """n = 30, P = 10, temperature 0.8, batch 16, LoRA of rank 16 and alpha 32 with dropout 0.1 on q and v."""
    assert (Sampling().n, Sampling().temperature, RandomPairs().per_prompt) == (30, 0.8, 10)
    assert inspect.signature(PreferenceData).parameters["batch_size"].default == 16
    assert Lora() == Lora(rank=16, alpha=32, dropout=0.1, targets=("q_proj", "v_proj"))


def test_the_adapter_follows_from_the_seed_alone(policy_folder: Path) -> None:
    def adapter(seed: int) -> list[torch.Tensor]:
        torch.rand(3)  # what ran before must not matter
        policy = Policy(Weights(str(policy_folder)), seed=seed)
        policy.configure_model()
        return [p for name, p in policy.named_parameters() if "lora_A" in name]

    one, same, other = adapter(0), adapter(0), adapter(1)
    assert one
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("setting", "value"), [("beta", 0.0), ("beta", float("nan")), ("nll_weight", -1.0)])
def test_settings_out_of_range_are_named(policy_folder: Path, setting: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"{setting} must be .*, got {value}\. Set model\.{setting}"):
        Policy(Weights(str(policy_folder)), **{setting: value})


def test_weights_before_configuration_are_refused(policy_folder: Path) -> None:
    with pytest.raises(RuntimeError, match="configure_model"):
        _ = Policy(Weights(str(policy_folder))).model


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantised_weights_are_not_shared_out(policy_folder: Path, quantization: Quantization) -> None:
    policy = Policy(Weights(str(policy_folder), quantization=quantization))
    policy.trainer = Trainer(
        strategy=ShardedStrategy(tensor_parallel_size=1), accelerator="cpu", devices=1, logger=False
    )
    with pytest.raises(ConfigurationError, match=rf"quantised \({quantization}\), .* Set trainer.strategy to ddp"):
        policy.setup("fit")
    whole = Policy(Weights(str(policy_folder)))
    whole.trainer = policy.trainer
    whole.setup("fit")
