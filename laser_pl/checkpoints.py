"""Checkpoint files: read without running what is in them, and refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from laser_pl.errors import ConfigurationError

_PARTS = {"state_dict", "pytorch-lightning_version"}
_PARTS_TO_GO_ON = {"callbacks", "loops", "optimizer_states", "lr_schedulers", "epoch", "global_step"}


def check_checkpoint(path: Path, to_go_on: bool, otherwise: str) -> None:
    """See whether a file is a whole checkpoint of tensors and plain values. Its tensors are mapped, not read.

    Args:
        path: The file.
        to_go_on: Whether training is to go on from it, which takes more than weights.
        otherwise: What the user can do if it is not.

    Raises:
        ConfigurationError: If it is not.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError:
        raise ConfigurationError(
            f"The checkpoint '{path}' holds something else than tensors and plain values, or is damaged. It is not"
            f" loaded, since that could run code. {otherwise}"
        ) from None
    except Exception:  # whatever the bytes of a file that is no checkpoint lead torch to
        raise ConfigurationError(
            f"The checkpoint '{path}' cannot be read: it is cut off, damaged or no checkpoint. {otherwise}"
        ) from None
    missing = (_PARTS | (_PARTS_TO_GO_ON if to_go_on else set())) - (found.keys() if isinstance(found, dict) else set())
    if missing:
        raise ConfigurationError(
            f"'{path}' is no checkpoint of a run, since it has no {', '.join(sorted(missing))}. {otherwise}"
        )
