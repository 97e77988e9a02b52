"""The loss of one training batch, computed group by group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, PairIndices
from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.reading.groups import Part
from laser_pl.reading.reader import Reading, ResponseReader
from laser_pl.training.summed_gradients import sum_with_gradients


@dataclass(frozen=True)
class PairMeans:
    """What is told of a batch's pairs besides the loss, in nats.

    Attributes:
        margin: How much further chosen and rejected are apart than under the reference. Shape ``()``.
        chosen_logprob: Log-probability of the chosen response, summed over its tokens. Shape ``()``.
    """

    margin: Tensor
    chosen_logprob: Tensor


def batch_loss(
    batch: LabelledBatch,
    reader: ResponseReader,
    objective: Objective,
    parameters: Iterable[torch.nn.Parameter] | None,
    loss_scale: float = 1.0,
) -> tuple[Tensor, LossOutputs, PairMeans]:
    """The mean loss over the prompts with pairs.

    Every response that occurs in some pair is computed once, however many pairs use it. Prompts do not depend on one
    another but for the mean, so a batch that exceeds the reader's budget is computed in groups of prompts.

    Args:
        batch: A labelled batch, with at least one pair.
        reader: Reads the responses.
        objective: What is minimised.
        parameters: Where given, groups are differentiated with respect to these one after the other, at once. Otherwise
            they are all in one graph, and their activations are computed again in its backward pass.
        loss_scale: Factor on a loss while it is differentiated at once.

    Returns:
        The loss, with gradient, ``()``; the loss of each prompt, without; and means over the pairs, without.
    """
    pairs, n = batch.pairs, batch.responses.tokens.shape[1]
    flat = torch.cat([pairs.prompt * n + pairs.chosen, pairs.prompt * n + pairs.rejected])  # (2M,)
    used, row = torch.unique(flat, return_inverse=True)  # (U,), (2M,)
    chosen, rejected = row.chunk(2)  # (M,), (M,)
    tokens, mask = batch.responses.tokens.flatten(0, 1)[used], batch.responses.mask.flatten(0, 1)[used]
    reading = Reading(batch.prompts, used // n, tokens, mask)
    reference, lengths = batch.reference_logprobs.flatten()[used], mask.sum(-1)  # (U,), (U,)
    prompts = len(torch.unique(pairs.prompt))
    groups = reader.groups(reading)
    seen: list[LossOutputs] = []
    margins: list[Tensor] = []
    chosen_logprobs: list[Tensor] = []

    def loss_of(group: list[Part]) -> Tensor:
        rows = torch.tensor([row for part in group for row in part], device=used.device)
        place = torch.full_like(used, -1).index_copy(0, rows, torch.arange(len(rows), device=used.device))  # (U,)
        mine = place[chosen] >= 0  # (M,)  all responses of a prompt are in one group
        its_pairs = PairIndices(pairs.prompt[mine], place[chosen[mine]], place[rejected[mine]])
        logprobs = reader.group_logprobs(reading, group, recompute=len(groups) > 1 and parameters is None)
        inputs = LossInputs(its_pairs, logprobs, reference[rows].to(logprobs.dtype), lengths[rows], len(batch))
        losses = objective.loss(inputs)
        seen.append(losses.detach())
        margins.append((inputs.margins - inputs.reference_margins).detach())
        chosen_logprobs.append(logprobs.detach()[its_pairs.chosen])
        return losses.per_prompt[torch.unique(its_pairs.prompt)].sum() / prompts

    if len(groups) > 1 and parameters is not None:
        loss = sum_with_gradients((partial(loss_of, group) for group in groups), parameters, loss_scale)
    else:
        loss = torch.stack([loss_of(group) for group in groups]).sum()
    means = PairMeans(torch.cat(margins).mean(), torch.cat(chosen_logprobs).mean())
    return loss, _together(seen), means


def frozen_loss(batch: LabelledBatch, objective: Objective) -> tuple[Tensor, LossOutputs, PairMeans]:
    """The same for a policy that is as it was when it wrote the responses: nothing is read again, and has no gradient.

    Args:
        batch: At least one pair.
        objective: What would be minimised.
    """
    pairs, n = batch.pairs, batch.responses.tokens.shape[1]
    flat = PairIndices(pairs.prompt, pairs.prompt * n + pairs.chosen, pairs.prompt * n + pairs.rejected)
    logprobs, lengths = batch.reference_logprobs.flatten(), batch.responses.mask.flatten(0, 1).sum(-1)  # (B n,) each
    inputs = LossInputs(flat, logprobs, logprobs, lengths, len(batch))
    losses = objective.loss(inputs)
    means = PairMeans((inputs.margins - inputs.reference_margins).mean(), logprobs[flat.chosen].mean())
    return losses.per_prompt[torch.unique(pairs.prompt)].mean(), losses, means


def _together(seen: list[LossOutputs]) -> LossOutputs:
    """Each prompt's numbers from the group it is in; the others have NaN there."""

    def joined(values: Iterable[Tensor]) -> Tensor:
        return reduce(lambda found, other: torch.where(found.isnan(), other, found), values)

    parts = {name: joined(losses.parts[name] for losses in seen) for name in seen[0].parts}
    return LossOutputs(joined(losses.per_prompt for losses in seen), parts)
