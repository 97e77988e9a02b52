"""Log-probabilities of responses given their prompts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def position_ids(mask: Tensor) -> Tensor:
    """Positions counted from each row's first real token, so that left padding shifts nothing. Shape ``(B, T)``."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def response_logprobs(
    model: Any, prompt_tokens: Tensor, prompt_mask: Tensor, response_tokens: Tensor, response_mask: Tensor
) -> Tensor:
    r"""Log-probability of each response, :math:`\sum_t \log p(y_t \mid x, y_{<t})`.

    Args:
        model: A Hugging Face causal language model.
        prompt_tokens: Prompts, padded on the left. Shape ``(R, Tp)``.
        prompt_mask: 1 for a real token. Shape ``(R, Tp)``.
        response_tokens: Responses including EOS, padded on the right. Shape ``(R, Tr)``.
        response_mask: 1 for a real token. Shape ``(R, Tr)``.

    Returns:
        Nats, in float32 or wider. Shape ``(R,)``.
    """
    # Columns that no row uses cost time and change nothing.
    prompt_length, response_length = int(prompt_mask.sum(-1).max()), int(response_mask.sum(-1).max())
    prompt_tokens, prompt_mask = prompt_tokens[:, -prompt_length:], prompt_mask[:, -prompt_length:]
    response_tokens, response_mask = response_tokens[:, :response_length], response_mask[:, :response_length]
    return full_width_logprobs(model, prompt_tokens, prompt_mask, response_tokens, response_mask)


def full_width_logprobs(
    model: Any, prompt_tokens: Tensor, prompt_mask: Tensor, response_tokens: Tensor, response_mask: Tensor
) -> Tensor:
    """The same, every column included."""
    response_length = response_tokens.shape[1]
    mask = torch.cat([prompt_mask, response_mask], dim=-1)  # (R, Tp + Tr)
    logits = model(
        input_ids=torch.cat([prompt_tokens, response_tokens], dim=-1),
        attention_mask=mask,
        position_ids=position_ids(mask),
        use_cache=False,
        logits_to_keep=response_length + 1,
    ).logits[:, :-1]  # (R, Tr, V)  the logits at t - 1 predict token t
    per_token = torch.stack([_row_logprobs(*row) for row in zip(logits, response_tokens, strict=True)])  # (R, Tr)
    return (per_token * response_mask).sum(-1)


def _row_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Of one response, so that float32 logits of all of them never exist at once. Shapes ``(T, V)``, ``(T,)``."""
    if torch.is_grad_enabled() and logits.requires_grad:
        result: Tensor = checkpoint(_token_logprobs, logits, tokens, use_reentrant=False, preserve_rng_state=False)
        return result
    return _token_logprobs(logits, tokens)


def _token_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    return -F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), tokens, reduction="none")
