"""A tiny model of every family that ``AutoModelForCausalLM`` makes, for tests of what must hold in each of them.

- ``families()``: the names of all that can be built here, as ``model_type`` in ``config.json`` has them.
- ``make(family, dtype=..., seed=..., **changes)``: the model, in evaluation mode, with weights large enough that a
  token shifts the logits of those behind it. ``changes`` are fields of its text configuration.
- ``config(family, **changes)``: its configuration alone.
- ``lora_targets(model)``: short names of linear layers of its text decoder, for ``model.lora.targets``.
- ``NOT_BUILT``: the few families that cannot be built, and why.

A model has ``VOCABULARY`` ids: 0 pads, 1 ends, 2 begins; it takes texts of up to 256 tokens.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

VOCABULARY = 96

SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "decoder_start_token_id": 2,
    **dict.fromkeys(("is_decoder", "causal"), True),
    **dict.fromkeys(("initializer_range", "init_std", "embed_init_std"), 0.2),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size", "emb_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "decoder_ffn_dim", "encoder_ffn_dim", "dim_ff"), 64),
    **dict.fromkeys(("d_inner", "dff", "ffn_hidden_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_decoder_layers", "num_encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_global_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "global_head_dim", "dim_head", "d_head"), 8),
    "rotary_dim": 4,
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 256),
    "sliding_window": 6,
    "hidden_size_per_layer_input": 8,
    # experts
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "first_k_dense_replace"), 1),
    # latent attention
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 24),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    # attention to the tokens that an index picks
    # many heads: tokens of which no head thinks anything tie, and which of them is picked depends on their number
    **dict.fromkeys(("index_n_heads", "indexer_n_heads"), 16),
    **dict.fromkeys(("index_head_dim", "indexer_head_dim"), 16),
    **dict.fromkeys(("index_topk", "indexer_budget"), 8),
    **dict.fromkeys(("indexer_compress_ratio", "index_topk_blocks"), 2),
    "indexer_kv_heads": 1,
    "index_block_size": 4,
    # recurrent layers
    **dict.fromkeys(("state_size", "mamba_d_state"), 8),
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "n_groups": 1,
    **dict.fromkeys(("chunk_size", "mamba_chunk_size"), 8),
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
"""Fields of configurations and what they are set to, in families that have them."""

_SHARED_LAYERS: dict[str, Any] = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}

OVERRIDES: dict[str, dict[str, Any]] = {
    "blt": {"encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [3, 4]},
    "blt_global_transformer": {"hidden_size": 64, "head_dim": 16},
    "blt_local_decoder": {"hidden_size_global": 64},
    "blt_local_encoder": {"hidden_size_global": 64},
    "cohere": {"logit_scale": 2.0},
    "cohere2": {"logit_scale": 2.0},
    "cohere2_moe": {"logit_scale": 2.0},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE}, "mrope_section": [2, 1, 1]},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64},
    },
    "bamba": {"attn_layer_indices": [1]},
    "dots3_note_audio_encoder": {"adapter_out_dim": 32, "adapter_input_size": 32},
    "dots3_note_text": {"layer_types": ["indexed_attention"] * 2},
    "dots3_note_vision_encoder": {
        "mlp_layer_types": ["dense", "dense"],
        "per_layer_config": {},
        "adapter_in_dim": 32,
        "adapter_out_dim": 32,
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {**_SHARED_LAYERS, "laurel_rank": 4, "activation_sparsity_pattern": None},
    "gemma4_text": _SHARED_LAYERS,
    "got_ocr2_vision": {"output_channels": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 6},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "inkling_text": {"logits_mup_width_multiplier": 2.0},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "use_mamba_kernels": False,
        "mamba_dt_rank": 4,
    },
    "kimi_linear": {"linear_num_heads": 4, "linear_head_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"]},
    "llama4_text": {"attention_chunk_size": 6},
    "mamba2": {"num_heads": 8, "n_groups": 1},
    "phi4_multimodal_audio": {
        "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32,
        "nemo_conv_channels": 32,
    },
    "recurrent_gemma": {
        "num_hidden_layers": 3,
        "block_types": ["recurrent", "attention", "recurrent"],
        "lru_width": 32,
        "attention_window_size": 16,
    },
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "attention_head_size": 8,
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [16, 16],
        "feed_forward_size": 64,
    },
    "roc_bert": {
        "pronunciation_embed_dim": 8,
        "pronunciation_vocab_size": 9,
        "shape_embed_dim": 8,
        "shape_vocab_size": 9,
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layer_types": ["linear_attention", "hybrid"] * 2},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}
"""What else a family needs."""

_DRAFTER = "drafts for another model, whose keys and values it reads"
_AUDIO = "writes several codes of sound at a time; AutoModelForCausalLM cannot make it from its whole configuration"
NOT_BUILT: dict[str, str] = {
    "gemma3n": "its part for pictures needs the package timm; its text decoder is gemma3n_text",
    "gemma4_assistant": _DRAFTER,
    "gemma4_unified_assistant": _DRAFTER,
    "musicgen": _AUDIO,
    "musicgen_melody": _AUDIO,
}
"""Families that are left out, and why."""

_MENDED = {"phi": "5.1", "dbrx": "5.15"}
"""Families whose modules transformers made of shapes that do not fit, and the version that mended them."""
NOT_BUILT |= {
    name: f"its modules fit together from transformers {version} on"
    for name, version in _MENDED.items()
    if Version(transformers.__version__) < Version(version)
}


def families() -> list[str]:
    """All families that can be built here."""
    return [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in NOT_BUILT]


def config(family: str, **changes: Any) -> Any:
    """A tiny configuration; ``changes`` go to its text part."""
    usual = CONFIG_MAPPING[family]()
    return _tiny(usual, usual.get_text_config(), changes)


def _tiny(usual: Any, text: Any, changes: dict[str, Any]) -> Any:
    special = OVERRIDES.get(usual.model_type, {})
    parts = {
        name: _tiny(part, text, changes)
        for name in usual.sub_configs
        if name not in special and (part := getattr(usual, name, None)) is not None
    }
    if usual.model_type == "git":  # which takes no configuration in older versions
        parts = {name: part.to_dict() for name, part in parts.items()}
    return type(usual)(**_sizes(usual) | parts | special | (changes if usual is text else {}))


def _sizes(usual: Any) -> dict[str, Any]:
    known = {*usual.to_dict(), *usual.attribute_map, *inspect.signature(type(usual).__init__).parameters}
    sizes = {name: value for name, value in SIZES.items() if name in known}
    kinds = list(dict.fromkeys(getattr(usual, "layer_types", None) or ()))
    if (
        len(kinds) > 1
        and not isinstance(getattr(type(usual), "layers_block_type", None), property)
        and "layer_types" in known
    ):  # a layer of each kind, in the order in which they first come
        sizes |= {"num_hidden_layers": len(kinds), "layer_types": kinds}
    if getattr(usual, "sliding_window", None) is None:
        sizes.pop("sliding_window", None)
    if "kv_lora_rank" in sizes and "num_key_value_heads" in sizes:  # latent attention has no groups of heads
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    return sizes


def make(family: str, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> Any:
    """A tiny model with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config(family, **changes), dtype=dtype).eval()


def lora_targets(model: Any) -> list[str]:
    """Short names of the linear layers of its text decoder that an adapter can go on, the head left out."""
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if decoder is head:  # ModernBERT's decoder calls its head so
        decoder = model.base_model
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in decoder.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head
    }
    fused = {"out_proj", "conv1d"} if "mamba" in model.config.model_type else set()  # PEFT refuses an adapter on them
    return sorted(name for name in names - fused if not name.isdigit())


RATE = 0.3


def drawing(family: str) -> dict[str, float]:
    """Every setting of a family's configuration that draws something in training, at a rate that nobody overlooks."""
    if family == "diffllama":  # refuses to be made with any
        return {}
    settings = config(family).get_text_config().to_dict()
    noise = re.compile("drop|jitter|noise")
    return {name: RATE for name, value in settings.items()
            if noise.search(name) and not isinstance(value, (bool, str, dict, list, type(None)))}  # fmt: skip
