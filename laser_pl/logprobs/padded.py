"""Log-probabilities of responses given their prompts, each read with a prompt of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from laser_pl.logprobs.company import with_like_lengths
from laser_pl.logprobs.manner import Manner, manner_of
from laser_pl.logprobs.shared_prefix import padded_right
from laser_pl.logprobs.text_decoder import without_wrapper
from laser_pl.logprobs.token_logprobs import token_logprobs


def position_ids(mask: Tensor) -> Tensor:
    """Positions counted from each row's first real token, so that left padding shifts nothing. Shape ``(B, T)``."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def response_logprobs(
    model: Any, prompt_tokens: Tensor, prompt_mask: Tensor, response_tokens: Tensor, response_mask: Tensor
) -> Tensor:
    r"""Log-probability of each response, :math:`\sum_t \log p(y_t \mid x, y_{<t})`.

    Args:
        model: A Hugging Face causal language model, inside PEFT's wrapper or not.
        prompt_tokens: Prompts, padded on the left. Shape ``(R, Tp)``.
        prompt_mask: 1 for a real token. Shape ``(R, Tp)``.
        response_tokens: Responses including EOS, padded on the right. Shape ``(R, Tr)``.
        response_mask: 1 for a real token. Shape ``(R, Tr)``.

    Returns:
        Nats, in float32 or wider. Shape ``(R,)``.

    Raises:
        ConfigurationError: If it is no causal language model.
    """
    base = without_wrapper(model)
    manner = manner_of(base)
    inputs = prompt_tokens, prompt_mask, response_tokens, response_mask

    def forward(rows: Tensor) -> Tensor:
        tokens, mask, targets, real = (part[rows] for part in inputs)
        # Columns that no row uses cost time and change nothing.
        width, longest = int((mask.sum(-1) + real.sum(-1)).max()), int(real.sum(-1).max())
        whole, whole_mask = _whole(tokens, mask, targets, real)
        return _logprobs(
            base,
            manner,
            whole[:, : width - 1],
            whole_mask[:, : width - 1],
            mask,
            targets[:, :longest],
            real[:, :longest],
        )

    return with_like_lengths(base, prompt_mask.sum(-1) + response_mask.sum(-1) - 1, forward)


def full_width_logprobs(
    base: Any,
    manner: Manner,
    prompt_tokens: Tensor,
    prompt_mask: Tensor,
    response_tokens: Tensor,
    response_mask: Tensor,
) -> Tensor:
    """The same in one forward, every column included."""
    whole, mask = _whole(prompt_tokens, prompt_mask, response_tokens, response_mask)
    return _logprobs(base, manner, whole[:, :-1], mask[:, :-1], prompt_mask, response_tokens, response_mask)


def _whole(
    prompt_tokens: Tensor, prompt_mask: Tensor, response_tokens: Tensor, response_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Prompts and responses as texts padded on the right, and their mask. Shapes ``(R, Tp + Tr)``."""
    mask = torch.cat([prompt_mask, response_mask], dim=-1)
    tokens = padded_right(torch.cat([prompt_tokens, response_tokens], dim=-1), prompt_mask)
    return tokens, mask.sort(dim=-1, descending=True).values


def _logprobs(
    base: Any, manner: Manner, tokens: Tensor, mask: Tensor, prompt_mask: Tensor, targets: Tensor, real: Tensor
) -> Tensor:
    """Of responses, ``(R, Tr)``, to texts without their last token, padded on the right, ``(R, T)``."""
    hidden, head = manner.read(base, tokens, mask)
    rows, length = targets.shape
    # The state at t - 1 predicts token t.
    places = prompt_mask.sum(-1, keepdim=True) - 1 + torch.arange(length, device=targets.device)  # (R, Tr)
    places = places.clamp(max=tokens.shape[1] - 1)  # of what pads
    index = places[:, :, None].expand(-1, -1, hidden.shape[-1])
    predicting = hidden.gather(1, index).flatten(0, 1)  # (R * Tr, h)
    logprobs = token_logprobs(head, predicting, targets.flatten())
    return (logprobs.view(rows, length) * real).sum(-1)
