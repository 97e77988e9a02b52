"""What a model needs to be a policy: template, pad token, adapter's targets, lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laser_pl.data.prompts import token_lengths
from laser_pl.data.templates import Template
from laser_pl.errors import ConfigurationError
from laser_pl.first_config.guess import Guess
from laser_pl.models.language_model import Weights
from laser_pl.models.saved_quantized import how_saved

MOST_PROMPT_TOKENS, MOST_NEW_TOKENS = 1024, 256
"""The library's own limits, where the model reads as much; longer prompts raise the first."""
PROMPTS_MEASURED = 200


@dataclass(frozen=True)
class GuessedPolicy:
    """What a folder or hub name seems to hold.

    Attributes:
        weights: ``model.weights.name``.
        lora: ``model.lora``.
        pad_token: ``model.pad_token``; None where the tokenizer names one.
        template: The class path of ``data.template``.
        max_new_tokens: Longest response.
        context: How many tokens the model reads; None if its configuration does not say.
        tokenizer: Beside the weights.
    """

    weights: Guess
    lora: Guess
    pad_token: Guess | None
    template: Guess
    max_new_tokens: Guess
    context: int | None
    tokenizer: Any


def guess_policy(name: str) -> GuessedPolicy:
    """Look at a policy without loading its weights.

    Args:
        name: A folder of a model or of a LoRA adapter, or a hub name.

    Raises:
        ConfigurationError: If it is no causal language model, or has no tokenizer.
    """
    adapter = adapter_of(name)
    weights = Weights(name if adapter is None else base_of(name, adapter))
    weights.check_language_model()
    config = weights.load_config()
    tokenizer = weights.load_tokenizer(padding_side="left")
    saved = how_saved(config)
    why = ", ".join(config.architectures or [config.model_type]) + (f", quantised as saved ({saved})" if saved else "")
    if adapter is not None:
        why = f"the base of the adapter in '{name}'"
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    context = context if isinstance(context, int) and context > 0 else None
    return GuessedPolicy(
        Guess(weights.name, why),
        _lora(weights, name, adapter),
        _pad_token(tokenizer),
        _template(tokenizer),
        _max_new_tokens(context),
        context,
        tokenizer,
    )


def adapter_of(name: str) -> Mapping[str, Any] | None:
    """The settings of a PEFT adapter; None if a folder holds a whole model.

    Raises:
        ConfigurationError: If they cannot be read.
    """
    path = Path(name).expanduser() / "adapter_config.json"
    if not path.is_file() or path.with_name("config.json").is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} holds no settings. Save the adapter again.")
    return found


def base_of(name: str, adapter: Mapping[str, Any]) -> str:
    """What an adapter lies on.

    Raises:
        ConfigurationError: If it does not say.
    """
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ConfigurationError(f"The adapter '{name}' does not say which model it lies on. Merge it into its base.")
    return base


def _lora(weights: Weights, name: str, adapter: Mapping[str, Any] | None) -> Guess:
    if adapter is not None:
        kept = {"rank": adapter.get("r"), "alpha": adapter.get("lora_alpha"), "targets": adapter.get("target_modules")}
        return Guess({**kept, "start": name}, "goes on from that adapter, with its rank, alpha and targets")
    layers = {module.rpartition(".")[2] for module, _ in weights.skeleton().named_modules()}
    if {"q_proj", "v_proj"} <= layers:
        return Guess({"rank": 16, "alpha": 32, "targets": ["q_proj", "v_proj"]}, "the paper's; its layers are there")
    return Guess({"rank": 16, "alpha": 32, "targets": "all-linear"}, "the model has no q_proj and v_proj")


def _pad_token(tokenizer: Any) -> Guess | None:
    if tokenizer.pad_token_id is not None:
        return None
    end = tokenizer.eos_token or tokenizer.unk_token
    if end is None:
        raise ConfigurationError(
            f"The tokenizer of '{tokenizer.name_or_path}' names neither a pad token nor an end token. Give it one in"
            " tokenizer_config.json."
        )
    return Guess(end, "the tokenizer names no pad token; its end token pads")


def _template(tokenizer: Any) -> Guess:
    if tokenizer.chat_template:
        return Guess("laser_pl.data.templates.Chat", "the tokenizer has a chat template")
    return Guess("laser_pl.data.templates.Plain", "the tokenizer has no chat template: the model goes on with the text",
                 "a base model goes on with the bare prompt; set what stands around it (data.template) and where an"
                 " answer ends (data.rollouts.stop)")  # fmt: skip


def _max_new_tokens(context: int | None) -> Guess:
    if context is not None and context < 2 * MOST_NEW_TOKENS:
        return Guess(context // 2, f"half of the {context} tokens that the model reads")
    return Guess(MOST_NEW_TOKENS, "long enough for a paragraph; longer responses are cut")


def prompt_tokens(policy: GuessedPolicy, prompts: Sequence[str], template: Template) -> Guess:
    """``data.max_prompt_tokens``, by the longest of some prompts.

    Args:
        policy: Whose tokenizer reads them.
        prompts: Their texts, as the template renders them.
        template: Which says whether special tokens are added.
    """
    some = prompts[:: -(-len(prompts) // PROMPTS_MEASURED)]  # from all over the table, which may be sorted
    lengths = sorted(token_lengths(some, policy.tokenizer, template.special_tokens))
    room = max(MOST_PROMPT_TOKENS, 2 ** (lengths[-1] - 1).bit_length())  # the next power of two
    if policy.context is not None:
        room = min(room, policy.context - policy.max_new_tokens.value)
    too_long = sum(length > room for length in lengths)
    why = f"of {len(some)} prompts the longest has {lengths[-1]} tokens, half have {lengths[len(lengths) // 2]} at most"
    ask = f"{too_long} of {len(some)} prompts are longer than {room} tokens, and dropped" if too_long else ""
    return Guess(room, why, ask)
