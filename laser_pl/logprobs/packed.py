"""Log-probabilities of many responses to a few prompts, each prompt read once."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from laser_pl.logprobs.attention import PackedAttention, attending
from laser_pl.logprobs.company import forget_longer_texts, with_like_lengths
from laser_pl.logprobs.fused_norms import fused_norms
from laser_pl.logprobs.kernel_trial import kernel_suits
from laser_pl.logprobs.manner import manner_of, predicted
from laser_pl.logprobs.modes import recomputes
from laser_pl.logprobs.packing import Packing, pack
from laser_pl.logprobs.shared_prefix import shared_prefix
from laser_pl.logprobs.text_decoder import Head, as_logits, decode, own_head, text_decoder, without_wrapper
from laser_pl.logprobs.token_logprobs import token_logprobs
from laser_pl.logprobs.trial_texts import TrialTexts, difference, unblurred

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
    base = without_wrapper(model)
    lengths = prompt_mask.sum(-1)[prompt] + response_mask.sum(-1) - 1

    def forward(rows: Tensor) -> Tensor:
        used, of = torch.unique(prompt[rows], return_inverse=True)
        tokens, mask = prompt_tokens[used], prompt_mask[used]
        start = shared_prefix(tokens, mask)
        packing = pack(tokens, mask, of, response_tokens[rows], response_mask[rows], start)
        return packed_logprobs(base, packing)

    return with_like_lengths(base, lengths, forward)


def packed_logprobs(base: Any, packing: Packing) -> Tensor:
    """Log-probability of each response of a packing. Shape ``(R,)``."""
    hidden, head, _ = read_packed(base, packing, kernel=kernel_suits(base))
    logprobs = token_logprobs(head, hidden, packing.target)
    return logprobs.new_zeros(len(packing.prompt)).index_add(0, packing.row, logprobs)


def read_packed(base: Any, packing: Packing, kernel: bool) -> tuple[Tensor, Head, PackedAttention]:
    """Hidden states that predict a packing's response tokens, and what makes logits of them.

    Args:
        base: The causal language model.
        packing: What it reads.
        kernel: Whether attention may be a kernel's, see ``PackedAttention``.

    Returns:
        The states, ``(Y, h)``, or logits in their place where weights are shared out; the head; and the attention as
        it was used.
    """
    attention = PackedAttention(packing, kernel)
    output, logits = _decode_packed(base, packing, attention)
    if logits is not None:
        return *as_logits(logits[0]), attention
    return _predicting(output, packing), own_head(base, text_decoder(base), output), attention


def packed_states(base: Any, packing: Packing, kernel: bool) -> Tensor:
    """The same states alone."""
    output, _ = _decode_packed(base, packing, PackedAttention(packing, kernel))
    return _predicting(output, packing)


def _decode_packed(base: Any, packing: Packing, attention: PackedAttention) -> tuple[Any, Tensor | None]:
    forget_longer_texts(base)
    with attending(base, attention), fused_norms(base):
        return decode(
            base,
            text_decoder(base),
            packing.source,
            input_ids=packing.tokens[None],
            position_ids=packing.positions[None],
            use_cache=False,
        )


def _predicting(output: Any, packing: Packing) -> Tensor:
    """Of response tokens only: the last prompt token predicts the first of them."""
    hidden: Tensor = output.last_hidden_state[0].index_select(0, packing.source)
    return hidden


def why_not_shared(model: Any) -> str | None:
    """Why responses cannot share their prompt's forward in this model as it is now; None if they can.

    Raises:
        ConfigurationError: If it is no causal language model.
    """
    base = without_wrapper(model)
    manner_of(base)  # first, since it refuses
    if recomputes(base):
        return "gradient checkpointing reads layers again when it is too late to say how they attend"
    return why_attention_is_its_own(base)


def why_attention_is_its_own(base: Any) -> str | None:
    """Why a model's attention cannot be replaced by one that shares prompts; None if it can. Found out once per model.

    A model's configuration says how its tokens look at one another. That nothing else in it does (a bias by distance, a
    cap on scores, an attention of its own) is found by trying: a few short texts are read both ways, and every logit of
    theirs is compared.
    """
    if base not in _known:
        _known[base] = _find_out(base)
    return _known[base]


def why_not_by_configuration(base: Any) -> str | None:
    """The same, as far as is known without weights."""
    if not getattr(base, "_supports_attention_backend", False):
        return f"{type(base).__name__} does not let its attention be replaced"
    config = base.config.get_text_config()
    types = getattr(config, "layer_types", None) or []
    if unknown := set(types) - _LAYER_TYPES:
        return f"it has layers of type {', '.join(sorted(unknown))}"
    return None


def _find_out(base: Any) -> str | None:
    reason = why_not_by_configuration(base)
    if reason is not None:
        return reason
    try:
        with unblurred(base):
            return _try(base, base.config.get_text_config())
    except Exception as error:  # whatever a model of unknown make raises, it means no
        return f"{type(error).__name__}: {error}"


def _try(base: Any, config: Any) -> str | None:
    """Read the trial's texts both ways."""
    texts = TrialTexts.of(base)
    for packing in texts.packings():
        hidden, head, attention = read_packed(base, packing, kernel=False)
        if attention.windows != windows_of(config):
            return f"its layers attend with windows {attention.windows}, its configuration says {windows_of(config)}"
        found, expected = head.logits(hidden), predicted(base, texts)[texts.cut.bool()]
        if not texts.agree(found, expected):
            return f"logits of a trial differed by {difference(found, expected):.1%} of the largest"
    return None


def windows_of(config: Any) -> list[int | None]:
    """The sliding window of each layer, by the configuration."""
    window = getattr(config, "sliding_window", None)
    types = (
        getattr(config, "layer_types", None)
        or ["full_attention" if window is None else "sliding_attention"] * config.num_hidden_layers
    )
    return [window if type_ == "sliding_attention" else None for type_ in types]
