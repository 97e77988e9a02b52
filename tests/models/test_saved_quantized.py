"""The size of weights that were saved quantised is what they take in memory, within 15 %."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, LlamaForSequenceClassification

from laser_pl.forecast.models import loaded
from laser_pl.models.language_model import Weights
from laser_pl.models.saved_quantized import how_saved, size_by_bits
from laser_pl.rewards import SequenceClassifier
from laser_pl.rewards.memory import Memory

WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_labels": 1}


def in_memory(model: Any) -> int:
    """Every tensor of a loaded model, those of bitsandbytes' quantisation included."""
    tensors = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code, *([state.state2.absmax, state.state2.code] if state.nested else [])]
        tensors += [parameter.SCB] if getattr(parameter, "SCB", None) is not None else []
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, llama_config: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("full")
    config = llama_config(300, **WIDE)
    with torch.random.fork_rng():
        LlamaForSequenceClassification(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_bitsandbytes(full: Path, tmp_path: Path, quantization: Any, dtype: Any) -> None:
    """As unsloth's ``*-bnb-4bit``: loaded, saved, and its size told from the files."""
    Weights(str(full), quantization=quantization).load(AutoModelForSequenceClassification).save_pretrained(tmp_path)
    weights = Weights(str(tmp_path), dtype=dtype)
    model = weights.load(AutoModelForSequenceClassification)
    size = weights.size(AutoModelForSequenceClassification)
    assert size == pytest.approx(in_memory(model), rel=0.15)
    assert size < 0.65 * Weights(str(full), dtype=dtype).size(AutoModelForSequenceClassification)
    assert size_by_bits(weights.skeleton(AutoModelForSequenceClassification)) == pytest.approx(size, rel=0.15)
    Memory({"rm": SequenceClassifier(weights)}, budget=round(1.15 * size)).check()
    told = loaded("rm", "", weights, AutoModelForSequenceClassification)
    assert (told.size, told.dtype) == (size, f"bitsandbytes, {4 if quantization == 'nf4' else 8} bits")
    assert told.parameters == sum(
        p.numel() for p in AutoModelForSequenceClassification.from_pretrained(full).parameters()
    )
    assert not SequenceClassifier(weights).movable


def gptq(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    rows, columns = weight.shape
    return {
        "qweight": torch.zeros(columns // 8, rows, dtype=torch.int32),
        "qzeros": torch.zeros(columns // 128, rows // 8, dtype=torch.int32),
        "scales": torch.zeros(columns // 128, rows, dtype=torch.float16),
        "g_idx": torch.zeros(columns, dtype=torch.int32),
    }


def awq(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    rows, columns = weight.shape
    return {
        "qweight": torch.zeros(columns, rows // 8, dtype=torch.int32),
        "qzeros": torch.zeros(columns // 128, rows // 8, dtype=torch.int32),
        "scales": torch.zeros(columns // 128, rows, dtype=torch.float16),
    }


def fp8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "weight": torch.zeros(weight.shape, dtype=torch.float8_e4m3fn),
        "weight_scale_inv": torch.zeros(weight.shape[0] // 128, weight.shape[1] // 128),
    }


def packed(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    rows, columns = weight.shape
    return {
        "weight_packed": torch.zeros(rows, columns // 8, dtype=torch.int32),
        "weight_scale": torch.zeros(rows, columns // 128, dtype=torch.bfloat16),
        "weight_shape": torch.zeros(2, dtype=torch.int64),
    }


@pytest.mark.parametrize(
    ("saved", "pack", "how"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, gptq, "gptq, 4 bits"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, awq, "awq, 4 bits"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, fp8, "fp8, 8 bits"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
            packed,
            "compressed-tensors, 4 bits",
        ),
    ],
    ids=lambda value: value["quant_method"] if isinstance(value, dict) else "",
)
def test_other_methods(full: Path, tmp_path: Path, saved: dict[str, Any], pack: Any, how: str) -> None:
    """Their kernels need a GPU; the files say what they take. A copy in another maker's format is not counted."""
    model = AutoModelForSequenceClassification.from_pretrained(full)
    tensors = {}
    for name, weight in model.state_dict().items():
        if ".layers." in name and name.endswith("proj.weight"):
            tensors |= {name.removesuffix("weight") + part: value for part, value in pack(weight).items()}
        else:
            tensors[name] = weight.contiguous()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    save_file(tensors, tmp_path / "consolidated.safetensors")
    config = json.loads((full / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": saved}))
    expected = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    weights = Weights(str(tmp_path))
    assert weights.size(AutoModelForSequenceClassification) == expected
    assert size_by_bits(weights.skeleton(AutoModelForSequenceClassification)) == pytest.approx(expected, rel=0.15)
    assert how_saved(AutoConfig.from_pretrained(tmp_path)) == weights.quantized_as == how
    weights.check_tensors(AutoModelForSequenceClassification)  # whose names are the method's own


def test_weights_saved_whole_are_as_large_as_before(full: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(full)
    assert Weights(str(full)).size(AutoModelForSequenceClassification) == pytest.approx(in_memory(model), rel=0.01)
    assert Weights(str(full)).quantized_as is None
