"""The loss of written responses, computed group by group."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from laser_pl.batches import RolloutBatch
from laser_pl.objectives.nll import nll_loss
from laser_pl.reading.groups import Part
from laser_pl.reading.reader import Reading, ResponseReader
from laser_pl.training.summed_gradients import sum_with_gradients


def supervised_loss(
    batch: RolloutBatch,
    reader: ResponseReader,
    parameters: Iterable[torch.nn.Parameter] | None,
    loss_scale: float = 1.0,
) -> Tensor:
    """Negative log-likelihood per token of each prompt's one response, EOS included; their mean, with gradient. ``()``.

    The prompt's tokens are read and not learned. Every response counts alike, however long it is: so does the NLL term
    of the training that follows.

    Args:
        batch: At least one prompt, each with a written response.
        reader: Reads the responses.
        parameters: See ``laser_pl.training.pair_step.batch_loss``.
        loss_scale: Factor on a loss while it is differentiated at once.
    """
    tokens, mask = batch.responses.tokens.flatten(0, 1), batch.responses.mask.flatten(0, 1)  # (B, T) each, n = 1
    reading = Reading(batch.prompts, torch.arange(len(batch), device=tokens.device), tokens, mask)
    groups, lengths = reader.groups(reading), mask.sum(-1)

    def loss_of(group: list[Part]) -> Tensor:
        rows = [row for part in group for row in part]
        logprobs = reader.group_logprobs(reading, group, recompute=len(groups) > 1 and parameters is None)
        return nll_loss(logprobs, lengths[rows]).sum() / len(batch)

    if len(groups) > 1 and parameters is not None:
        return sum_with_gradients((partial(loss_of, group) for group in groups), parameters, loss_scale)
    return torch.stack([loss_of(group) for group in groups]).sum()
