"""A state of tensors and builtins in one file that runs no code when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from laser_pl.errors import ConfigurationError
from laser_pl.run.files import writing

NAME = "selection.safetensors"


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state: tensors as they are, the rest as JSON in the file's head.

    Raises:
        TypeError: If it holds anything else.
    """
    tensors: dict[str, Tensor] = {"": torch.zeros(0)}  # the format wants one
    head = json.dumps(_without_tensors(state, tensors))
    with writing(path, path.parent) as file:
        file.write(save(tensors, metadata={"state": head}))


def read_state(path: Path) -> dict[str, Any]:
    """What ``write_state`` wrote.

    Raises:
        ConfigurationError: If it is no such file.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            found = _with_tensors(json.loads(file.metadata()["state"]), file)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"'{path}' cannot be read as the selection's state ({error}). Resume from a checkpoint that is whole."
        ) from error
    assert isinstance(found, dict)
    return found


def _without_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"A state's keys must be strings, got {list(value)[:3]}.")
        return {"dict": {key: _without_tensors(one, tensors) for key, one in value.items()}}
    if isinstance(value, list | tuple):
        return [_without_tensors(one, tensors) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"A state holds tensors and plain builtins, got {type(value).__name__}.")


def _with_tensors(value: Any, file: Any) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return file.get_tensor(value["tensor"])
        return {key: _with_tensors(one, file) for key, one in value["dict"].items()}
    return [_with_tensors(one, file) for one in value] if isinstance(value, list) else value
