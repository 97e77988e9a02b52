"""Log-probabilities of many responses to a few prompts, each prompt read once."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from laser_pl.reading.attention import PackedAttention, attending
from laser_pl.reading.common_start import common_start
from laser_pl.reading.logprobs import response_logprobs
from laser_pl.reading.modes import evaluating, recomputes
from laser_pl.reading.packing import Packing, pack
from laser_pl.reading.token_logprobs import token_logprobs

_LAYER_TYPES = {"full_attention", "sliding_attention"}
_known: WeakKeyDictionary[torch.nn.Module, str | None] = WeakKeyDictionary()


def shared_logprobs(
    model: Any,
    prompt_tokens: Tensor,
    prompt_mask: Tensor,
    prompt: Tensor,
    response_tokens: Tensor,
    response_mask: Tensor,
) -> Tensor:
    r"""Log-probability of each response, :math:`\sum_t \log p(y_t \mid x, y_{<t})`, gradients included.

    Equal to ``response_logprobs`` on prompts repeated for their responses, for models that ``why_not_shared`` has
    nothing against. One departure: where dropout is on, a prompt has one mask for all its responses instead of one for
    each, and so has what all prompts begin with (``model.share_prompts`` switches back). Each response alone is still
    dropped out as it would be.

    Args:
        model: A Hugging Face causal language model, inside PEFT's wrapper or not.
        prompt_tokens: Prompts, padded on the left. Shape ``(B, Tp)``.
        prompt_mask: 1 for a real token. Shape ``(B, Tp)``.
        prompt: The prompt of each response. Shape ``(R,)``, int64.
        response_tokens: Responses including EOS, padded on the right. Shape ``(R, Tr)``.
        response_mask: 1 for a real token. Shape ``(R, Tr)``.

    Returns:
        Nats, in float32 or wider. Shape ``(R,)``.
    """
    start = common_start(prompt_tokens, prompt_mask)
    packing = pack(prompt_tokens, prompt_mask, prompt, response_tokens, response_mask, start)
    return packed_logprobs(model, packing)[0]


def packed_logprobs(model: Any, packing: Packing) -> tuple[Tensor, PackedAttention]:
    """Log-probability of each response of a packing, and the attention as it was used. Shape ``(R,)``."""
    base = _without_wrapper(model)
    attention = PackedAttention(packing)
    with attending(base, attention):
        hidden = base.get_decoder()(
            input_ids=packing.tokens[None], position_ids=packing.positions[None], use_cache=False
        ).last_hidden_state[0]  # (N, h)
    # Logits of response tokens only: the last prompt token predicts the first of them.
    logprobs = token_logprobs(base.get_output_embeddings(), hidden.index_select(0, packing.source), packing.target)
    return logprobs.new_zeros(len(packing.prompt)).index_add(0, packing.row, logprobs), attention


def why_not_shared(model: Any) -> str | None:
    """Why responses cannot share their prompt's forward in this model as it is now; None if they can."""
    base = _without_wrapper(model)
    if recomputes(base):
        return "gradient checkpointing reads layers again when it is too late to say how they attend"
    return why_attention_is_its_own(base)


def why_attention_is_its_own(base: Any) -> str | None:
    """Why a model's attention cannot be replaced by one that shares prompts; None if it can. Found out once per model.

    A model's configuration says how its tokens look at one another. That nothing else in it does (a bias by distance, a
    cap on logits, an attention of its own) is found by trying: a short text is read both ways.
    """
    if base not in _known:
        _known[base] = _find_out(base)
    return _known[base]


def why_not_by_configuration(base: Any) -> str | None:
    """The same, as far as it can be told without weights."""
    if not getattr(base, "_supports_attention_backend", False):
        return f"{type(base).__name__} does not let its attention be replaced"
    config = base.config.get_text_config()
    types = getattr(config, "layer_types", None) or []
    if unknown := set(types) - _LAYER_TYPES:
        return f"it has layers of type {', '.join(sorted(unknown))}"
    if getattr(config, "use_bidirectional_attention", False):
        return "its attention looks ahead"
    return None


def _find_out(base: Any) -> str | None:
    reason = why_not_by_configuration(base)
    if reason is not None:
        return reason
    try:
        with evaluating(base):
            return _try(base, base.config.get_text_config())
    except Exception as error:  # whatever a model of unknown make raises, it means no
        return f"{type(error).__name__}: {error}"


def _try(base: Any, config: Any) -> str | None:
    """Two prompts with two responses each, all of different lengths, read both ways."""
    device = base.get_input_embeddings().weight.device
    ids = torch.arange(1, 25, device=device) * 7 % config.vocab_size
    prompt = torch.tensor([0, 0, 1, 1], device=device)
    prompt_tokens, prompt_mask = ids[:8].view(2, 4), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]], device=device)
    response_tokens = ids[8:].view(4, 4)
    response_mask = (torch.arange(4, device=device) < torch.tensor([[4], [2], [1], [3]], device=device)).long()
    packing = pack(prompt_tokens, prompt_mask, prompt, response_tokens, response_mask)
    found, attention = packed_logprobs(base, packing)
    expected = response_logprobs(base, prompt_tokens[prompt], prompt_mask[prompt], response_tokens, response_mask)
    if attention.windows != windows_of(config):
        return f"its layers attend with windows {attention.windows}, its configuration says {windows_of(config)}"
    tolerance = 64 * torch.finfo(base.dtype).eps * (1 + float(expected.abs().max()))
    distance = float((found - expected).abs().max())
    if not distance <= tolerance:
        return f"a trial differed by {distance:.1e} nats, more than the {tolerance:.1e} that rounding explains"
    return None


def windows_of(config: Any) -> list[int | None]:
    """The sliding window of each layer, by the configuration."""
    window = getattr(config, "sliding_window", None)
    types = (
        getattr(config, "layer_types", None)
        or ["full_attention" if window is None else "sliding_attention"] * config.num_hidden_layers
    )
    return [window if type_ == "sliding_attention" else None for type_ in types]


def _without_wrapper(model: Any) -> Any:
    """The causal language model inside PEFT's wrapper, its adapter included."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
