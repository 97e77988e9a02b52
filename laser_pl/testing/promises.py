"""How a promise is held, and what a checkpoint keeps of a state."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor


def hold(kept: bool | Tensor, otherwise: str) -> None:
    """Raise an AssertionError that says what is wrong, also under ``python -O``."""
    if not bool(kept):
        raise AssertionError(otherwise)


def through_checkpoint(state: dict[str, Any], whose: str) -> dict[str, Any]:
    """The state as it comes back from a checkpoint, which holds tensors and plain builtins only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        loaded: dict[str, Any] = torch.load(file, weights_only=True)
    except Exception as error:
        raise AssertionError(
            f"{whose}.state_dict() holds something that is neither a tensor nor a plain builtin, so that no run could"
            f" be resumed: {error}"
        ) from error
    return loaded
