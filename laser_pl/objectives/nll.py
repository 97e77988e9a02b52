"""The negative log-likelihood of responses, per token."""

from __future__ import annotations

from torch import Tensor

from laser_pl.batches import RolloutBatch


def nll_loss(chosen_logprob: Tensor, chosen_length: Tensor) -> Tensor:
    r"""Negative log-likelihood per token of the chosen response, the second term of Iterative RPO (Pang et al. 2024).

    Their equation divides by the length of prompt and response together; we divide by the response's, so that the
    term does not shrink with the prompt.

    Args:
        chosen_logprob: log p(chosen), nats summed over response tokens. Shape ``(M,)``.
        chosen_length: Number of response tokens, EOS included, >= 1. Shape ``(M,)``.

    Returns:
        Unreduced loss in nats per token. Shape ``(M,)``.

    >>> import torch
    >>> nll_loss(torch.tensor([-6.0]), torch.tensor([3]))
    tensor([2.])
    """
    return -chosen_logprob / chosen_length


def mean_nll(batch: RolloutBatch) -> Tensor:
    """Negative log-likelihood per token of each prompt's responses under the iteration's policy, their mean.

    It is what the NLL of a response chosen at random will be before training moves the policy. Shape ``(B,)``.
    """
    return -(batch.reference_logprobs / batch.responses.mask.sum(-1)).mean(-1)
