"""What is a causal language model, told before any weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertLMHeadModel,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from laser_pl.errors import ConfigurationError
from laser_pl.models.causality import why_not_causal
from laser_pl.models.language_model import Weights
from laser_pl.rewards import Likelihood, PointwiseJudge

OTHERS = {
    **{f"masked {kind}": (kind, name) for kind, name in MODEL_FOR_MASKED_LM_MAPPING_NAMES.items()},
    **{f"labels {kind}": (kind, name) for kind, name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.items()},
    **{f"tags {kind}": (kind, name) for kind, name in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES.items()},
    **{f"encoder {kind}": (kind, name) for kind, name in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.items()
       if "ForCausalLM" not in name and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES},
    "no head": ("llama", "LlamaModel"),
    "no head, tied": ("qwen3", "Qwen3Model"),
    "rewards": ("qwen2", "Qwen2ForRewardModel"),
    "pictures": ("vit", "ViTForImageClassification"),
    "speech": ("whisper", "WhisperForConditionalGeneration"),
    "both": ("bart", "BartForConditionalGeneration"),
    "two directions": ("xlnet", "XLNetLMHeadModel"),
    "BERT that was not made a decoder": ("bert", "BertLMHeadModel"),
    "BERT of no named kind": ("bert", None),
    "pictures and text, of a class without a decoder of its own": ("llava", "LlavaForConditionalGeneration"),
}  # fmt: skip
WRITE = {
    "a name of old": ("gpt2", "GPT2LMHeadModel"),
    "two heads": ("gpt2", "GPT2DoubleHeadsModel"),
    "no name": ("llama", None),
    "pictures as well": ("gemma3", "Gemma3ForConditionalGeneration"),
    "text alone": ("gemma3_text", "Gemma3ForCausalLM"),
    "an attribute that says nothing": ("gpt_neox", "GPTNeoXForCausalLM"),
    "state space": ("mamba", "MambaForCausalLM"),
    "mixture": ("mixtral", "MixtralForCausalLM"),
    "another name": ("mpt", "MPTForCausalLM"),
}


def config_of(kind: str, name: str | None, **changes: Any) -> Any:
    if kind == "encoder-decoder":  # which has no usual parts in older versions
        changes |= {part: {"model_type": "bert"} for part in ("encoder", "decoder")}
    config = AutoConfig.for_model(kind, **changes)
    config.architectures = None if name is None else [name]
    return config


@pytest.mark.parametrize("case", OTHERS)
def test_others_are_told_by_their_configuration(case: str) -> None:
    kind, name = OTHERS[case]
    reason = why_not_causal(config_of(kind, name))
    assert reason is not None
    assert (name or repr(kind)) in reason


@pytest.mark.parametrize("case", WRITE)
def test_models_that_write_are_taken(case: str) -> None:
    assert why_not_causal(config_of(*WRITE[case])) is None


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 50}
BART = {"d_model": 32, "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "vocab_size": 50}


@pytest.mark.parametrize(
    "model",
    [BertLMHeadModel(BertConfig(**SMALL, is_decoder=True)), BartForCausalLM(BartConfig(**BART))],
    ids=["BERT", "BART"],
)
def test_a_decoder_of_a_family_that_reads_both_ways_is_taken_as_it_was_saved(
    tmp_path: Path, model: PreTrainedModel
) -> None:
    model.save_pretrained(tmp_path)
    Weights(str(tmp_path)).check_language_model()


def test_attention_in_both_directions_is_told() -> None:
    assert why_not_causal(config_of("gemma3_text", "Gemma3ForCausalLM")) is None
    reason = why_not_causal(config_of("gemma3_text", "Gemma3ForCausalLM", use_bidirectional_attention=True))
    assert reason == "Gemma3ForCausalLM, which looks ahead"


def test_code_that_comes_with_the_weights_says_itself_what_it_is() -> None:
    own = config_of("bert", "OwnModel")
    own.auto_map = {"AutoModelForCausalLM": "modeling_own.OwnModel"}
    assert why_not_causal(own) is None


@pytest.mark.parametrize("reward", [Likelihood, PointwiseJudge])
def test_reward_models_that_are_language_models_are_checked_alike(tmp_path: Path, reward: Any) -> None:
    declared = {"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}
    (tmp_path / "config.json").write_text(json.dumps(declared))
    with pytest.raises(ConfigurationError, match="is no causal language model but RobertaForMaskedLM"):
        reward(Weights(str(tmp_path))).check()


def test_what_transformers_would_load_is_known() -> None:
    """The mapping is private; a release that renames it should be noticed here."""
    assert type(AutoConfig.for_model("llama")) in AutoModelForCausalLM._model_mapping
