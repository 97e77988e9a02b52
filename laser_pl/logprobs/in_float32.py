"""Running a model of half precision in float32, without a copy of its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map  # documented beside torch's function modes

_NARROW = (torch.bfloat16, torch.float16)


class InFloat32(TorchFunctionMode):
    """A block in which every operation on numbers of 16 bits is one on float32, so that rounding blurs nothing.

    Weights are widened one at a time, where they are used, and what is computed stays wide. Nothing may be written into
    tensors of 16 bits meanwhile: it would be lost.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` with wide tensors, and let it make no narrow ones."""
        args, kwargs = tree_map(_wide, (args, kwargs or {}))
        return func(*args, **kwargs)


def is_narrow(model: torch.nn.Module) -> bool:
    """Whether any weight or buffer of a model has 16 bits, or fewer as quantised ones do."""
    return any(tensor.element_size() < 4 for tensor in (*model.parameters(), *model.buffers()))


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _NARROW else value
    return torch.float32 if value in _NARROW else value
