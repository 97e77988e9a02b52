"""Which models a run loads: how many parameters they have, and how many bytes those take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from laser_pl.errors import ConfigurationError
from laser_pl.forecast.int8 import keep_inputs
from laser_pl.models.language_model import Lora, Weights
from laser_pl.rewards.arm import Arm
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.composite import Composite
from laser_pl.rewards.implicit import ImplicitReward
from laser_pl.rewards.local import LocalModel


@dataclass(frozen=True)
class Loaded:
    """Weights that a run loads, or a reward model that has none.

    Attributes:
        name: ``policy``, an arm's or a constraint's name, or those of an ensemble and its member.
        kind: What it is.
        where: The folder or hub name of the weights; empty where there are none.
        parameters: How many it has; None if that is not known.
        size: Bytes of the weights in memory; None if that is not known.
        dtype: Their element type, or how they are quantised.
    """

    name: str
    kind: str
    where: str = ""
    parameters: int | None = None
    size: int | None = None
    dtype: str = ""


def loaded(name: str, kind: str, weights: Weights, model_class: Any = AutoModelForCausalLM) -> Loaded:
    """One model, described by its configuration alone.

    What a hub does not give away, because it cannot be reached, stays unknown.

    Raises:
        ConfigurationError: If a folder holds no such model.
    """
    try:
        model = weights.skeleton(model_class)
    except ConfigurationError:
        if Path(weights.place).is_dir():
            raise
        return Loaded(name, kind, weights.name)
    dtype = weights.quantized_as or str(next(model.parameters()).dtype).removeprefix("torch.")
    return Loaded(name, kind, weights.name, parameters_of(model), weights.size_of(model), dtype)


def parameters_of(model: Any) -> int:
    """How many parameters it has; what is tied counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def reward_models(named: Mapping[str, RewardModel]) -> Iterator[Loaded]:
    """The models under reward models, of ensembles every member's."""
    for name, model in named.items():
        kind = type(model).__name__
        if isinstance(model, Composite):
            for part in reward_models(model.reward_models):
                yield Loaded(f"{name}/{part.name}", part.kind, part.where, part.parameters, part.size, part.dtype)
        elif isinstance(model, LocalModel):
            yield loaded(name, kind, model.weights, model.model_class)
            if isinstance(model, ImplicitReward) and model.reference is not None:
                yield loaded(f"{name}/reference", kind, model.reference, model.model_class)
        elif not isinstance(model, Arm):  # which is listed under its own name
            yield Loaded(name, kind, parameters=0, size=model.size())


def leaves(model: RewardModel) -> Iterator[RewardModel]:
    """The reward models that a reward model asks, itself if it is made of no others."""
    if isinstance(model, Composite):
        for member in model.members:
            yield from leaves(member)
    elif isinstance(model, Arm):
        yield from leaves(model.model)
    else:
        yield model


@dataclass(frozen=True)
class Adapted:
    """The policy as it is trained.

    Attributes:
        skeleton: Base and adapter on torch's meta device, in the types that activations have.
        base: The base.
        adapter: The adapter, which is trained.
    """

    skeleton: Any
    base: Loaded
    adapter: Loaded


def adapted(weights: Weights, lora: Lora, gradient_checkpointing: bool) -> Adapted | None:
    """The policy on torch's meta device; None if nothing is known of it.

    Of a quantised base PEFT keeps what is not quantised (embeddings, norms, head) in float32, and so are the
    activations (``peft.prepare_model_for_kbit_training``).

    Raises:
        ConfigurationError: If a folder holds no such model, or the adapter does not fit it.
    """
    try:
        skeleton = weights.skeleton()
    except ConfigurationError:
        if Path(weights.place).is_dir():
            raise
        return None
    base = skeleton
    quantized = weights.quantized_as
    dtype = quantized or str(next(base.parameters()).dtype).removeprefix("torch.")
    if quantized is not None:
        linear = {id(module.weight) for module in base.modules() if isinstance(module, torch.nn.Linear)}
        for parameter in base.parameters():
            if id(parameter) not in linear or parameter is _head(base):
                parameter.data = parameter.data.float()
    parameters, size = parameters_of(base), weights.size_of(base)
    if quantized is not None:
        base.float()
    if quantized == "int8":
        keep_inputs(base, _head(base))
    with torch.device("meta"):
        model = lora.wrap(base, gradient_checkpointing)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Adapted(
        model,
        Loaded("policy", "the base, frozen", weights.name, parameters, size, dtype),
        Loaded(
            "adapter",
            f"LoRA of rank {lora.rank}, trained",
            parameters=sum(parameter.numel() for parameter in trained),
            size=sum(parameter.numel() * parameter.element_size() for parameter in trained),
            dtype=", ".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in trained})),
        ),
    )


def _head(model: Any) -> Any:
    head = model.get_output_embeddings()
    return None if head is None else head.weight
