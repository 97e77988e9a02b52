"""Evaluation mode for a while, and activations that are computed again going backward, in whichever mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from laser_pl.errors import ConfigurationError
from laser_pl.runtime.sharding import layers_of


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run a block with the model in evaluation mode and without gradients; each of its modules gets its mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def recompute_layers(model: nn.Module) -> None:
    """Keep of each layer only what goes in, and compute the rest again in the backward pass.

    transformers does so in training mode alone, in which a policy's base never is.

    Raises:
        ConfigurationError: If the model has no such layers.
    """
    layers = layers_of(model)
    if not layers:
        raise ConfigurationError(
            f"model.gradient_checkpointing: {type(model).__name__} has no layers that can be computed again. Set it to"
            " false, and lower model.tokens_per_forward to save memory."
        )
    for layer in layers:
        layer.forward = partial(_computed_again, layer.forward)


def recomputes(model: nn.Module) -> bool:
    """Whether it is done so in a model."""
    return any("forward" in vars(layer) for layer in layers_of(model))


def _computed_again(forward: Any, *args: Any, **kwargs: Any) -> Any:
    return (
        checkpoint(forward, *args, use_reentrant=False, **kwargs)
        if torch.is_grad_enabled()
        else forward(*args, **kwargs)
    )
