"""Layers of 4 bits that compute alike on every processor."""

from __future__ import annotations

from typing import Any


def differentiable_everywhere(model: Any) -> None:
    """Keep bitsandbytes from packing 4-bit weights for CPUs that compute in bfloat16, as it does in evaluation.

    What is packed computes in bfloat16 whatever type was asked for, refuses widths that are no multiple of 32, and
    passes no gradient, not even once the layer is trained again: layers below would learn nothing, without a word.

    Args:
        model: A model whose layers may be quantised, of transformers.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
