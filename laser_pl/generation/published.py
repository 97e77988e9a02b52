"""An adapter as a server can load it: a folder in PEFT's format, under a name that says what is in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from laser_pl.errors import ConfigurationError, writable
from laser_pl.run.state import digest

if TYPE_CHECKING:
    from peft import PeftModel


def name_of(model: PeftModel, trained: dict[str, Tensor] | None) -> str | None:
    """Another name for other weights, so that no cache can take one policy for another; None without an adapter.

    Without: a policy whose adapter is switched off, as it is for the base's own responses.

    Args:
        model: With the adapter.
        trained: Its tensors, by their name in the model's state; None takes the model's own.
    """
    from peft import get_peft_model_state_dict  # takes a second, which nothing but training needs

    if model.get_model_status().enabled is False:
        return None
    tensors = get_peft_model_state_dict(model, state_dict=trained, save_embedding_layers=False)
    return f"laser-{digest(dict(sorted(tensors.items())))[:16]}"


def refuse_unservable(config: Any) -> None:
    """See whether a server can use an adapter of this kind.

    Args:
        config: PEFT's, of the adapter.

    Raises:
        ConfigurationError: If not.
    """
    odd = [name for name in ("use_dora", "modules_to_save", "trainable_token_indices") if getattr(config, name, None)]
    if getattr(config, "bias", "none") != "none":
        odd.append("bias")
    if odd:
        raise ConfigurationError(
            f"vLLM serves no adapter with {' and '.join(odd)}. Use a plain LoRA adapter, or leave model.engine out."
        )


def refuse_rank(rank: int, highest: int | None) -> None:
    """See whether a server takes adapters of a rank.

    Args:
        rank: Of ours.
        highest: The server's; None where it does not say.

    Raises:
        ConfigurationError: If not.
    """
    if highest is not None and rank > highest:
        raise ConfigurationError(
            f"model.lora.rank is {rank}, and the vLLM server was started with --max-lora-rank {highest}. Start it with"
            " a higher one, or lower the rank."
        )


def write_adapter(model: PeftModel, trained: dict[str, Tensor] | None, folder: Path) -> None:
    """Write an adapter; the folder appears under its name only when it is whole.

    Args:
        model: With the adapter.
        trained: Its tensors, by their name in the model's state; None takes the model's own.
        folder: Where to.

    Raises:
        ConfigurationError: If it cannot be written.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    advice = "Set the engine's adapters to a folder that can be written to, and that the server sees by the same path."
    try:
        with writable(folder, advice):
            folder.parent.mkdir(parents=True, exist_ok=True)
            model.save_pretrained(str(aside), state_dict=trained, safe_serialization=True, save_embedding_layers=False)
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
