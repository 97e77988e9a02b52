"""The training objective, as functions of log-probabilities."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor


def dpo_loss(policy_margin: Tensor, reference_margin: Tensor, beta: float) -> Tensor:
    r"""Per-pair DPO loss, :math:`-\log\sigma(\beta[\Delta^\pi-\Delta^{ref}])`, Eq. (7) of Rafailov et al. 2023.

    Args:
        policy_margin: log p(chosen) - log p(rejected) under the policy, nats summed over response tokens.
            Shape ``(M,)``.
        reference_margin: The same under the reference; no gradient flows into it. Shape ``(M,)``.
        beta: Inverse temperature, 1/nats, > 0.

    Returns:
        Unreduced loss in nats. Shape ``(M,)``.

    Raises:
        ValueError: If ``beta`` is not positive or the shapes differ.

    >>> dpo_loss(torch.tensor([0.0, 10.0]), torch.zeros(2), beta=0.1)
    tensor([0.6931, 0.3133])
    """
    if not beta > 0:
        raise ValueError(f"beta must be > 0, got {beta}. Set model.beta in the config.")
    if policy_margin.shape != reference_margin.shape:
        raise ValueError(f"margins must agree, got {tuple(policy_margin.shape)} and {tuple(reference_margin.shape)}.")
    return -F.logsigmoid(beta * (policy_margin - reference_margin.detach()))


def nll_loss(chosen_logprob: Tensor, chosen_length: Tensor) -> Tensor:
    r"""Negative log-likelihood per token of the chosen response, the second term of Iterative RPO (Pang et al. 2024).

    Their equation divides by the length of prompt and response together; we divide by the response's, so that the
    term does not shrink with the prompt.

    Args:
        chosen_logprob: log p(chosen), nats summed over response tokens. Shape ``(M,)``.
        chosen_length: Number of response tokens, EOS included, >= 1. Shape ``(M,)``.

    Returns:
        Unreduced loss in nats per token. Shape ``(M,)``.

    >>> nll_loss(torch.tensor([-6.0]), torch.tensor([3]))
    tensor([2.])
    """
    return -chosen_logprob / chosen_length


def mean_per_prompt(values: Tensor, prompt: Tensor, prompts: int) -> Tensor:
    """Mean of the pairs' values within each prompt.

    Args:
        values: One value per pair. Shape ``(M,)``.
        prompt: Row of the prompt each pair belongs to. Shape ``(M,)``, int64.
        prompts: ``B``.

    Returns:
        Shape ``(B,)``; NaN for a prompt without pairs.

    >>> mean_per_prompt(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), prompts=3)
    tensor([2., nan, 5.])
    """
    total = values.new_zeros(prompts).index_add(0, prompt, values)  # (B,)
    count = torch.bincount(prompt, minlength=prompts)  # (B,)
    # Not 0 / 0, whose gradient is NaN as well: nobody uses it, but `trainer.detect_anomaly` sees it.
    return torch.where(count > 0, total / count.clamp(min=1), math.nan)
