"""Root mean square norms by one kernel on a card, where models of transformers' take eight, and more going backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from laser_pl.logprobs.trial_texts import difference
from laser_pl.runtime.sharding import is_sharded

_NARROW = (torch.bfloat16, torch.float16)

TOLERANCE = 2e-2
"""Of the largest number. Models round to 16 bits before they scale, too; one that scales otherwise is off by a half."""

_known: WeakKeyDictionary[torch.nn.Module, list[Any]] = WeakKeyDictionary()


@contextmanager
def fused_norms(base: Any) -> Iterator[None]:
    """Run a block in which a model's norms of 16 bits on a card are torch's ``rms_norm``, where that is what they are.

    Args:
        base: A Hugging Face causal language model, without PEFT's wrapper.
    """
    if base not in _known:
        norms = () if is_sharded(base) else base.modules()  # of which there are pieces, too small to try
        _known[base] = [module for module in norms if on_card(module) and is_plain(module)]
    norms = [norm for norm in _known[base] if "forward" not in vars(norm)]  # none that somebody else has wrapped
    for norm in norms:
        norm.forward = partial(_forward, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def on_card(module: Any) -> bool:
    """Whether a module is a norm on a card, by its name and its weight."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 1 or not type(module).__name__.endswith("RMSNorm"):
        return False
    return weight.is_cuda and weight.dtype in _NARROW


def is_plain(norm: Any) -> bool:
    """Whether a norm gives what ``rms_norm`` gives, forward and backward, within rounding."""
    weight = norm.weight.detach()
    numbers = torch.arange(4 * len(weight), device=weight.device).view(4, -1)
    given, upstream = (3 * numbers.cos()).to(weight.dtype), numbers.sin().to(weight.dtype)
    found = []
    for call in (partial(_fused, norm), norm):
        with torch.enable_grad():
            given = given.detach().requires_grad_()
            try:
                result = call(given)
                found.append((result.detach(), *torch.autograd.grad(result, given, upstream)))
            except Exception:  # whatever it wants, it is another kind of norm
                return False
    return all(difference(one, other) <= TOLERANCE for one, other in zip(*found, strict=True))


def _fused(norm: Any, hidden: Tensor) -> Tensor:
    eps = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    return F.rms_norm(hidden, norm.weight.shape, norm.weight, eps)


def _forward(norm: Any, hidden: Tensor) -> Tensor:
    if hidden.dtype == norm.weight.dtype and not torch.is_autocast_enabled(hidden.device.type):
        return _fused(norm, hidden)
    result: Tensor = type(norm).forward(norm, hidden)
    return result
