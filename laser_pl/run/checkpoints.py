"""Checkpoint files: read without running what is in them, and refused in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from laser_pl.errors import ConfigurationError
from laser_pl.run.bounds import memory_for
from laser_pl.run.files import reading

FORMAT = 3
"""Counts the forms that the state of a run had, so that an older one is refused in a sentence."""

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
        with reading(path.resolve(), most=sys.maxsize) as file, memory_for(file):
            found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except ConfigurationError:
        raise
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
    if to_go_on and found.get("format") != FORMAT:
        raise ConfigurationError(
            f"The checkpoint '{path}' was written by another version of laser_pl, whose runs have other state. Go on"
            " with the version that began the run, or begin it again under another --name."
        )


def selection_in(path: Path, arms: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint's selection has learned, for use without further learning.

    Args:
        path: A checkpoint that is whole.
        arms: The reward models that are configured.

    Raises:
        ConfigurationError: If it has learned nothing, or of other reward models.
    """
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)["callbacks"].get(
        "RewardSelection", {}
    )
    if not state:
        raise ConfigurationError(
            f"The selection in the checkpoint '{path}' has decided nothing yet. Train for a step, or check --ckpt_path."
        )
    learned = state.get("arms", [])
    if set(learned) != set(arms):
        raise ConfigurationError(
            f"The checkpoint '{path}' knows the reward models {', '.join(learned)}, and selection.reward_models names"
            f" {', '.join(arms)}. Predict with the configuration of its run, which is the config.yaml in the run's"
            " folder."
        )
    return state


def refuse_other_adapter(trained: Mapping[str, torch.Size], saved: Mapping[str, torch.Size], whose: str) -> None:
    """Compare the tensors of an adapter with those that are configured.

    Args:
        trained: Shapes by name, as ``model.lora`` makes them.
        saved: The same, as they were found.
        whose: Where they were found.

    Raises:
        ConfigurationError: If they differ.
    """
    if trained != saved:
        odd = sorted(name for name in trained.keys() | saved.keys() if trained.get(name) != saved.get(name))
        raise ConfigurationError(
            f"{whose} holds another adapter than model.lora describes: {len(odd)} tensors differ, the first is"
            f" {odd[0]} ({saved.get(odd[0])} saved, {trained.get(odd[0])} expected)."
        )


def refuse_other_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """See whether the state that an optimizer got from a checkpoint is of its own kind.

    Raises:
        ConfigurationError: If it lacks what this one needs.
    """
    # Torch adds to the defaults of an optimizer that knows nothing of them, LBFGS for one, when it takes a state up.
    needed = optimizer.defaults.keys() & signature(type(optimizer)).parameters.keys()
    missing = sorted({name for group in optimizer.param_groups for name in needed - group.keys()})
    if missing:
        raise ConfigurationError(
            f"The checkpoint's optimizer has no {', '.join(missing)}, so it is no {type(optimizer).__name__}. Go on"
            " with the optimizer that the run was started with."
        )
