"""An adapter's folder, and the policy that training started from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from laser_pl.errors import ConfigurationError
from laser_pl.messages.places import briefly
from laser_pl.run.checkpoints import refuse_other_adapter
from laser_pl.runtime.sharding import shared_out_like

if TYPE_CHECKING:
    from peft import PeftModel

ADVICE_ON_START = "Set model.lora.start to a folder such as runs/<name>/adapter of model.lora's own shape, or to null."


def load_adapter(model: PeftModel, folder: str | Path, advice: str) -> None:
    """Give a model's adapter the weights of another one of the same shape.

    Args:
        model: Whose adapter is made as ``model.lora`` says.
        folder: The other one, in PEFT's format.
        advice: A sentence on what to do if it cannot be.

    Raises:
        ConfigurationError: If there is none, or it is of another shape or scale.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict  # as in `Lora.wrap`

    path, folder = Path(folder), briefly(Path(folder))
    config, weights = path / "adapter_config.json", path / "adapter_model.safetensors"
    missing = [file.name for file in (config, weights) if not file.is_file()]
    if missing:
        raise ConfigurationError(f"There is no adapter in '{folder}': it has no {missing[0]}. {advice}")
    try:
        found: Any = json.loads(config.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("adapter_config.json holds no settings")
        tensors = load_file(weights)
    except (ValueError, OSError, SafetensorError, RecursionError) as error:
        raise ConfigurationError(
            f"The adapter in '{folder}' cannot be read ({' '.join(str(error).split())}). {advice}"
        ) from error
    own = model.peft_config["default"]
    for setting, name in (("rank", "r"), ("alpha", "lora_alpha")):
        if found.get(name) != getattr(own, name):
            raise ConfigurationError(
                f"The adapter in '{folder}' has {setting} {found.get(name)}, and model.lora.{setting} is"
                f" {getattr(own, name)}. {advice}"
            )
    for name in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern"):
        if found.get(name):
            raise ConfigurationError(
                f"The adapter in '{folder}' was made with {name}, which model.lora knows nothing of. {advice}"
            )
    expected = get_peft_model_state_dict(model)
    made, found_in = ({name: tensor.shape for name, tensor in each.items()} for each in (expected, tensors))
    refuse_other_adapter(made, found_in, f"'{folder}'")
    placed = {name: shared_out_like(tensor, expected[name]) for name, tensor in tensors.items()}
    set_peft_model_state_dict(model, placed)


def train_adapter(model: PeftModel, mode: bool = True) -> None:
    """Put the adapter in training mode, or out of it; the base stays in evaluation mode.

    The reference is read without dropout, router jitter and whatever else a base does in training only, so the policy
    must be, too: else it is another model than its own reference before the first step. What is drawn in training is
    the adapter's dropout, which ``model.lora.dropout`` asks for.
    """
    from peft.tuners.lora import LoraLayer  # as in `Lora.wrap`

    model.eval()
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.lora_dropout.train(mode)


def refuse_other_base(base: Any, folder: str | Path, name: str) -> None:
    """See whether an adapter belongs to a base of these layers and shapes; no weights are read.

    Args:
        base: The base, on torch's meta device; it is given an adapter.
        folder: The adapter's, in PEFT's format.
        name: The base's, for the message.

    Raises:
        ConfigurationError: If it does not.
    """
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict  # as in `Lora.wrap`

    try:
        config = PeftConfig.from_pretrained(str(folder))
        config.base_model_name_or_path = base.name_or_path  # where it lies is of no account
        config.megatron_config = None  # with it PEFT imports whatever `megatron_core` names
        with torch.device("meta"):
            model = get_peft_model(base, config)
        with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
            found = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # whatever a broken file makes PEFT raise, or layers that are not there
        raise ConfigurationError(
            f"The adapter in '{folder}' does not fit '{name}': {' '.join(str(error).split())} Name the base that it was"
            " made for."
        ) from error
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    made = {key: list(tensor.shape) for key, tensor in tensors.items() if "lora_" in key}
    odd = sorted(key for key in made if made[key] != found.get(key))
    odd += sorted(key for key in found if "lora_" in key and key not in made)
    if odd:
        raise ConfigurationError(
            f"The adapter in '{folder}' does not fit '{name}': {len(odd)} tensors differ, the first is {odd[0]}"
            f" ({found.get(odd[0])} saved, {made.get(odd[0])} expected). Name the base that it was made for."
        )


@contextmanager
def as_started(model: PeftModel, folder: str | None) -> Iterator[None]:
    """Run a block with the adapter as training began with it.

    Args:
        model: With its adapter as it is now, which it has again afterwards, to the last bit.
        folder: The adapter that it started from; None: the base.
    """
    if folder is None:
        with model.disable_adapter():
            yield
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    now = [parameter.detach().clone() for parameter in trained]
    try:
        load_adapter(model, folder, ADVICE_ON_START)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(trained, now, strict=True):
                parameter.copy_(value)
