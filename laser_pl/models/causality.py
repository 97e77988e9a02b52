"""Which models are causal language models: they write on from a text, one token after another, and never look ahead."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

_WRITE = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "WithLMHead", "DoubleHeadsModel")
"""How the names of models end that have a head to write with; the second read images or sounds as well."""


def why_not_causal(config: Any) -> str | None:
    """Why a model is no causal language model, by its configuration; None if it is one.

    transformers loads many others as if they were, and at most warns: a masked language model then looks ahead, and a
    model without a head, or with that of a classifier, gets one of random numbers.

    Args:
        config: The configuration of Hugging Face's.
    """
    names = config.architectures or []
    told = ", ".join(names) or f"a model of type {config.model_type!r}"
    if config.is_encoder_decoder:
        return f"{told}, whose encoder reads prompts"
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return None  # its own code says so
    if type(config) not in AutoModelForCausalLM._model_mapping:
        return told
    expected = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if names and not any(name == expected or name.endswith(_WRITE) for name in names):
        return told
    return f"{told}, which looks ahead" if _looks_ahead(config) else None


def _looks_ahead(config: Any) -> bool:
    text = config.get_text_config()
    return (
        getattr(text, "use_bidirectional_attention", None) in (True, "all")
        or config.model_type == "xlnet"  # without a permutation of its own for every text
        or not getattr(config, "causal", True)  # XLM
        # BERT and its like have the same class for both; GPT-NeoX has the attribute, and does not read it.
        or (not getattr(config, "is_decoder", True) and not config.model_type.startswith("gpt_neox"))
    )
