"""The decoder inside a causal language model, and logits by the model's own code behind it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from laser_pl.logprobs.company import forget_longer_texts
from laser_pl.runtime.sharding import is_sharded


@dataclass(frozen=True)
class Head:
    """What makes logits of hidden states.

    Attributes:
        logits: From hidden states ``(N, h)`` to logits ``(N, V)``.
        vocabulary: ``V``.
        frozen: Whether no parameter in it is trained.
    """

    logits: Callable[[Tensor], Tensor]
    vocabulary: int
    frozen: bool


def without_wrapper(model: Any) -> Any:
    """The causal language model inside PEFT's wrapper, its adapter included."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def text_decoder(base: Any) -> Any:
    """The module of whose last hidden states a model makes its logits, by its structure; None if there seems none.

    Some models call themselves their decoder (Llama 4), or their head (ModernBERT).
    """
    head = base.get_output_embeddings()
    for module in (base.get_decoder(), getattr(base, "model", None), base.base_model):
        if isinstance(module, torch.nn.Module) and module is not base and module is not head:
            return module
    return None


def read(base: Any, tokens: Tensor, mask: Tensor, decoder: Any) -> tuple[Tensor, Head]:
    """Hidden states of texts, and what makes logits of them.

    The texts are padded on the right, where a causal model cannot see it, and take their places from their first token
    on, as they do when nobody says anything of places or padding. So they are read as each would be alone.

    Args:
        base: A Hugging Face causal language model, without PEFT's wrapper.
        tokens: Texts, padded on the right. Shape ``(R, T)``.
        mask: 1 for a real token. Shape ``(R, T)``.
        decoder: Its decoder. None takes its logits for hidden states, which then are logits already; so is it done
            where weights are shared out.

    Returns:
        Hidden states, ``(R, T, h)``; and the head.
    """
    forget_longer_texts(base)
    if decoder is None or is_sharded(base):
        return as_logits(base(input_ids=tokens, attention_mask=mask, use_cache=False).logits)
    output = decoder(input_ids=tokens, attention_mask=mask, use_cache=False)
    return output.last_hidden_state, own_head(base, decoder, output)


def decode(base: Any, decoder: Any, keep: Tensor | int, **inputs: Any) -> tuple[Any, Tensor | None]:
    """A decoder's output; where weights are shared out, by the forward of the whole model, which gathers them.

    Args:
        base: A Hugging Face causal language model, without PEFT's wrapper.
        decoder: Its decoder.
        keep: The places of which that forward is to make logits, or how many of the last ones.
        inputs: The decoder's.

    Returns:
        The output; and logits ``(R, places, V)``, where the whole model was read.
    """
    if not is_sharded(base):
        return decoder(**inputs), None
    outputs: list[Any] = []
    chooses = "logits_to_keep" in signature(base.forward).parameters
    noting = decoder.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        logits: Tensor = base(**inputs, **({"logits_to_keep": keep} if chooses else {})).logits
    finally:
        noting.remove()
    if not chooses:
        logits = logits[:, keep] if isinstance(keep, Tensor) else logits[:, -keep:]
    return outputs[0], logits


def as_logits(logits: Tensor) -> tuple[Tensor, Head]:
    """Logits in the place of hidden states, and what leaves them as they are."""
    return logits, Head(_as_they_are, logits.shape[-1], frozen=True)


def own_head(base: Any, decoder: Any, output: Any) -> Head:
    """What a model does with hidden states: its own ``forward``, with a decoder that has them ready.

    So whatever scales, caps or normalises logits behind the output layer does so here.

    Args:
        base: The causal language model.
        decoder: Its decoder.
        output: What the decoder gave back when it made the hidden states.
    """
    inside = {id(parameter) for parameter in decoder.parameters()}
    outside = (parameter for parameter in base.parameters() if id(parameter) not in inside)
    output_layer = base.get_output_embeddings()  # which may be tied to what is inside
    tied = () if output_layer is None else output_layer.parameters()
    trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in (*outside, *tied))

    def logits(hidden: Tensor) -> Tensor:
        ready = copy.copy(output)
        ready["last_hidden_state"] = hidden[None]
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)  # nobody looks at them
        with _giving(decoder, ready):
            result: Tensor = base(input_ids=ids, use_cache=False).logits
        return result[0]

    return Head(logits, int(base.config.get_text_config().vocab_size), frozen=not trained)


@contextmanager
def _giving(module: Any, output: Any) -> Iterator[None]:
    """Run a block in which a module gives back ``output`` whatever it is given."""
    usual = vars(module).get("forward")
    module.forward = lambda *args, **kwargs: output
    try:
        yield
    finally:
        if usual is None:
            del module.forward
        else:  # somebody else's wrapper, like accelerate's
            module.forward = usual


def _as_they_are(logits: Tensor) -> Tensor:
    return logits
