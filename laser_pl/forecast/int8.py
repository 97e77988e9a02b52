"""What bitsandbytes' 8-bit layers keep for the backward pass, computed on paper."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor


def keep_inputs(model: Any, whole: Any) -> None:
    """Let the linear layers of a model keep what bitsandbytes' do: their input, though their weights are frozen.

    Args:
        model: The base, which has no adapter yet.
        whole: The weight of the layer that stays as it is, the head's.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.weight is not whole:
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(module: torch.nn.Linear, hidden: Tensor) -> Tensor:
    result: Tensor = _Int8.apply(hidden, module.weight)  # type: ignore[no-untyped-call]
    return result if module.bias is None else result + module.bias


class _Int8(torch.autograd.Function):
    """The tensors of ``bitsandbytes.MatMul8bitLt``: inputs in float16 and int8 meanwhile, weights wide backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.hidden, ctx.weight = hidden, weight
        narrow = hidden.half()
        narrow.char()
        return F.linear(hidden, weight)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream @ ctx.weight.clone(), None
