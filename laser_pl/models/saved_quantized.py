"""Weights that were quantised before they were saved: how, and how large they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types that are loaded as whatever type was asked for; others stay as they were saved."""


def how_saved(config: Any) -> str | None:
    """The method and bits of a model's configuration, such as ``gptq, 4 bits``; None where it is not quantised."""
    saved = _settings(config)
    return None if saved is None else f"{saved.get('quant_method', 'quantised')}, {_bits(saved):.3g} bits"


def size_in_files(folder: Path, model: Any) -> int:
    """Bytes that the tensors in a folder's files take in memory.

    Args:
        folder: Of files in the format safetensors.
        model: The unquantised model without weights, whose types those tensors get that are not quantised.
    """
    known = {name: (list(tensor.shape), tensor.element_size()) for name, tensor in model.state_dict().items()}
    size = 0
    for path in _files(folder):
        for name, tensor in _header(path):
            shape, element = known.get(name, ([], 0))
            begin, end = tensor["data_offsets"]
            as_asked = tensor["dtype"] in _FLOATS and tensor["shape"] == shape
            size += int(element * math.prod(shape) if as_asked else end - begin)
    return size


def size_by_bits(model: Any) -> int:
    """The same where there are no files, from the bits of a linear layer's weight, its scales included."""
    saved = _settings(model.config)
    assert saved is not None
    head = model.get_output_embeddings() or getattr(model, "score", None)  # stays as it is
    linear = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Linear)}
    linear -= set() if head is None else {id(head.weight)}
    each = _bits(saved) / 8 * (1 if _bits(saved) >= 8 else 17 / 16)
    return int(sum(
        tensor.numel() * (each if id(tensor) in linear else tensor.element_size())
        for tensor in [*model.parameters(), *model.buffers()]
    ))  # fmt: skip


def type_in_files(folder: Path) -> torch.dtype | None:
    """The type of the first floating tensor in a folder's files, as transformers goes by it; None if there is none."""
    saved = (tensor["dtype"] for path in _files(folder)[:1] for _, tensor in _header(path))
    return next((_FLOATS[name] for name in saved if name in _FLOATS), None)


def _settings(config: Any) -> dict[str, Any] | None:
    saved = getattr(config, "quantization_config", None)
    return saved if saved is None or isinstance(saved, dict) else saved.to_dict()


def _bits(saved: Mapping[str, Any]) -> float:
    """Of a weight, as the methods name them."""
    groups = (saved.get("config_groups") or {}).values()
    named = [group["weights"]["num_bits"] for group in groups if group.get("weights")]
    if saved.get("load_in_4bit"):
        return 4
    if saved.get("quant_method") == "mxfp4":
        return 4.25
    return float(saved.get("bits") or saved.get("w_bit") or min(named, default=8))


def _files(folder: Path) -> list[Path]:
    """Those that transformers reads; the same weights may lie beside them in another maker's format."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [
            folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        ]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


def _header(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and ``dtype``, ``shape``, ``data_offsets`` of each tensor."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return ((name, tensor) for name, tensor in header.items() if name != "__metadata__")
