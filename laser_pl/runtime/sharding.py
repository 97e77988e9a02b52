"""Weights that the processes of a run share out among themselves (FSDP2), each holding its piece of every tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

SHARED_OUT = "the processes of the run share its weights out"
"""Why something is not done."""


def layers_of(model: torch.nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers of a Hugging Face model that transformers lets be computed again, from the outside in."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def shard(base: Any, mesh: DeviceMesh) -> None:
    """Share out the weights of a language model: those of each layer together, then what is left.

    A layer's weights are gathered while it computes, forward and backward, and given up again.

    Args:
        base: A Hugging Face causal language model, without PEFT's wrapper, its adapter included.
        mesh: The processes.
    """
    for layer in reversed(layers_of(base)):  # from the inside out
        fully_shard(layer, mesh=mesh)
    fully_shard(base, mesh=mesh, reshard_after_forward=True)


def bytes_gathered(base: Any) -> int:
    """Most bytes of weights that a process has beside its pieces while a model whose weights are shared out computes.

    What lies in no layer stays whole through the forward. What comes from the others lies there twice, as it came and
    as tensors, and goes when the next layer has come: first what lies in no layer beside the first layer, later one
    layer beside the next (``experiments/scale/memory.py`` measures it).

    Args:
        base: The model before it is shared out; it may lie on torch's meta device.
    """
    sizes: list[int] = [sum(parameter.nbytes for parameter in layer.parameters()) for layer in layers_of(base)]
    rest = sum(parameter.nbytes for parameter in base.parameters()) - sum(sizes)
    largest = max(sizes, default=0)
    return int(rest + max(rest, largest) + 2 * largest)


def is_sharded(model: Any) -> bool:
    """Whether the weights of a language model, without PEFT's wrapper, are shared out."""
    return isinstance(model, FSDPModule)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, of which this process has a piece; every process calls it. One that it has whole stays it."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor


def own_piece(tensor: Tensor) -> Tensor:
    """What lies in this process, with gradient."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shared_out_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, which every process has, in pieces as another one is."""
    if not isinstance(other, DTensor) or isinstance(tensor, DTensor):
        return tensor
    placed = tensor.detach().to(other.device)
    return distribute_tensor(placed, other.device_mesh, other.placements, src_data_rank=None)


def gathered(model: torch.nn.Module) -> dict[str, Tensor] | None:
    """What is trained, whole, by its name in a module's state; None where that is whole. Every process calls it."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not any(isinstance(parameter, DTensor) for parameter in trained.values()):
        return None
    return {name: whole(parameter).cpu() for name, parameter in trained.items()}
