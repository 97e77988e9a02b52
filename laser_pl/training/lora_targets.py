"""Where an adapter may lie: in the layers that a text goes through."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Collection
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps

log = logging.getLogger(__name__)

ALL_LINEAR = "all-linear"
_TRIAL_TOKENS = 8

_FUSED = "out_proj", "conv1d"
_FUSING = "mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"
"""Layers of these families whose weights a kernel takes as they are, so that PEFT refuses an adapter on them."""
_REVERSIBLE = ("reformer",)
"""Families whose backward pass works in training mode alone, in which a base, with its own dropout, never is."""


def untrained_targets(model: Any, targets: Collection[str] | str) -> str | None:
    """A pattern of those layers that ``targets`` match and that no text's gradient reaches; None if there are none.

    Towers for images and sounds have layers of the same names as the text's decoder (``q_proj``); so have attention to
    an encoder that is not there, and indices that choose tokens. An adapter there is dead weight in every checkpoint,
    and processes that train together wait for its gradient.

    Args:
        model: The base, with or without weights.
        targets: Names of layers, a regular expression over whole names, or ``all-linear``.

    Raises:
        ConfigurationError: If a name, or the expression, matches no layer that a text goes through, or if the model
            cannot be trained by an adapter.
    """
    if getattr(model.config, "model_type", None) in _REVERSIBLE:
        raise ConfigurationError(
            f"{type(model).__name__} cannot be trained by an adapter: its reversible layers have no backward pass while"
            " the base's own dropout is off. Take another model in model.weights.name."
        )
    layers = {name: module for name, module in model.named_modules() if getattr(module, "weight", None) is not None}
    reached = layers_of_text(model) or _layers_of_decoder(model, layers)
    if targets == ALL_LINEAR and model.config.model_type in _FUSING:
        reached = {name for name in reached if not name.endswith(_FUSED)}
    _refuse_unmatched(targets, layers, reached)
    untrained = [name for name in layers if name not in reached and _matches(targets, name, layers[name])]
    if not untrained:
        return None
    log.info("model.lora.targets: %d layers that no text goes through get no adapter, such as %s.",
             len(untrained), untrained[0])  # fmt: skip
    patterns = {re.sub(r"\d+", r"\\d+", re.escape(name)): name for name in untrained}
    trained = [name for name in layers if name in reached]
    one_each = {re.escape(name) for pattern in patterns if any(re.fullmatch(pattern, name) for name in trained)
                for name in untrained if re.fullmatch(pattern, name)}  # fmt: skip
    several = {pattern for pattern in patterns if not any(re.fullmatch(pattern, name) for name in trained)}
    return "|".join(sorted(several | one_each))


def layers_of_text(model: Any) -> set[str]:
    """Names of the layers whose weights get a gradient from a text, and that give what an adapter can add to.

    That is one tensor, of a linear layer with as many features as it has: DeepSeek V4's layers for groups of heads are
    called linear and give fewer.

    A text of a few tokens is read by a twin of the model whose tensors have shapes and no numbers, which takes neither
    memory nor the weights.

    Args:
        model: The base, with or without weights.

    Returns:
        None of them if the twin cannot be read.
    """
    try:
        config = model.config
        key = type(model), config.to_json_string(use_diff=False), config._attn_implementation
        if key not in _known:
            _known[key] = _layers_of_twin(model)
    except Exception as error:  # models of unknown make raise anything where numbers are missing
        log.debug("No twin of %s can be read: %s", type(model).__name__, error)
        return set()
    return set(_known[key])


_known: dict[tuple[type, str, str], frozenset[str]] = {}
"""By what a twin is made of. A run asks before the weights are there and again when they are."""


def _layers_of_twin(model: Any) -> frozenset[str]:
    from torch._subclasses.fake_tensor import FakeTensorMode  # here, since it brings in much of the compiler

    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        twin = type(model)._from_config(copy.deepcopy(model.config), dtype=torch.bfloat16).eval()
        layers = {name: module for name, module in twin.named_modules()
                  if getattr(module, "weight", None) is not None}  # fmt: skip
        ran: set[str] = set()  # the others' weights are used behind an adapter's back
        for name, module in layers.items():
            module.weight.requires_grad_(True)
            module.register_forward_hook(
                lambda layer, _, output, name=name: ran.add(name) if _can_be_added_to(layer, output) else None
            )
        logits = twin(input_ids=torch.ones(1, _TRIAL_TOKENS, dtype=torch.long), use_cache=False).logits
        found = torch.autograd.grad(
            logits.float().sum(), [module.weight for module in layers.values()], allow_unused=True
        )
    return frozenset(name for name, gradient in zip(layers, found, strict=True) if gradient is not None) & ran


def _layers_of_decoder(model: Any, layers: Collection[str]) -> set[str]:
    """Those that lie in the text's decoder or are the head; all of them where neither says so by its name."""
    names = {id(module): name for name, module in model.named_modules()}
    decoder, head = names.get(id(model.get_decoder()), ""), names.get(id(model.get_output_embeddings()), "")
    inside = {name for name in layers if name.startswith(f"{decoder}.")}
    return inside | {head} if inside else set(layers)


def _can_be_added_to(layer: Any, output: Any) -> bool:
    features = layer.out_features if isinstance(layer, torch.nn.Linear) else None
    return isinstance(output, torch.Tensor) and features in (None, output.shape[-1])


def _is_linear(module: Any) -> bool:
    return isinstance(module, (torch.nn.Linear, Conv1D))


def _matches(targets: Collection[str] | str, name: str, module: Any) -> bool:
    """As PEFT matches them."""
    if isinstance(targets, str):
        return _is_linear(module) if targets == ALL_LINEAR else re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _refuse_unmatched(targets: Collection[str] | str, layers: dict[str, Any], reached: set[str]) -> None:
    for target in [targets] if isinstance(targets, str) else targets:
        own: Collection[str] | str = targets if isinstance(targets, str) else [target]
        found = [name for name, module in layers.items() if _matches(own, name, module)]
        if any(name in reached for name in found):
            continue
        names = sorted({name.rsplit(".", 1)[-1] for name in reached if _is_linear(layers[name])})
        if found:
            raise ConfigurationError(
                f"model.lora.targets {target!r} match only layers that no text goes through, such as {found[0]}. Name"
                f" linear layers of the text's decoder (here: {', '.join(names)}), or set all-linear."
            )
        raise ConfigurationError(
            f"model.lora.targets {target!r} match no layer of the model. Name its linear layers"
            f" (here: {', '.join(names)}), or set all-linear.{perhaps(closest(target, names))}"
        )
