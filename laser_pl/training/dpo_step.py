"""The loss of one training batch, computed group by group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, PairIndices, PromptLosses
from laser_pl.losses import dpo_loss, mean_per_prompt, nll_loss
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


@dataclass(frozen=True)
class Objective:
    """What is minimised: DPO, and the chosen responses' negative log-likelihood.

    Attributes:
        beta: DPO's inverse temperature, 1/nats.
        nll_weight: Weight of the second term.
    """

    beta: float
    nll_weight: float

    def losses(
        self, pairs: PairIndices, logprobs: Tensor, reference: Tensor, lengths: Tensor, prompts: int
    ) -> tuple[PromptLosses, Tensor]:
        """The loss of each prompt ``(B,)``, and each pair's reward margin in nats ``(M,)``.

        Args:
            pairs: Chosen and rejected as rows of the following.
            logprobs: Log-probability of each response. Shape ``(U,)``.
            reference: The same under the reference. Shape ``(U,)``.
            lengths: Length of each response. Shape ``(U,)``.
            prompts: ``B``.
        """
        margin = logprobs[pairs.chosen] - logprobs[pairs.rejected]  # (M,)  Delta^pi
        reference_margin = reference[pairs.chosen] - reference[pairs.rejected]  # (M,)  Delta^ref
        dpo = mean_per_prompt(dpo_loss(margin, reference_margin, self.beta), pairs.prompt, prompts)  # (B,)
        nll = mean_per_prompt(nll_loss(logprobs[pairs.chosen], lengths[pairs.chosen]), pairs.prompt, prompts)  # (B,)
        return PromptLosses(dpo, nll, self.nll_weight), margin - reference_margin


def batch_loss(
    batch: LabelledBatch,
    reader: ResponseReader,
    objective: Objective,
    parameters: Iterable[torch.nn.Parameter] | None,
    loss_scale: float = 1.0,
) -> tuple[Tensor, PromptLosses, PairMeans]:
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
    seen: list[PromptLosses] = []
    margins: list[Tensor] = []
    chosen_logprobs: list[Tensor] = []

    def loss_of(group: list[Part]) -> Tensor:
        rows = torch.tensor([row for part in group for row in part], device=used.device)
        place = torch.full_like(used, -1).index_copy(0, rows, torch.arange(len(rows), device=used.device))  # (U,)
        mine = place[chosen] >= 0  # (M,)  all responses of a prompt are in one group
        its_pairs = PairIndices(pairs.prompt[mine], place[chosen[mine]], place[rejected[mine]])
        logprobs = reader.group_logprobs(reading, group, recompute=len(groups) > 1 and parameters is None)
        reference_logprobs = reference[rows].to(logprobs.dtype)
        losses, margin = objective.losses(its_pairs, logprobs, reference_logprobs, lengths[rows], len(batch))
        seen.append(losses.detach())
        margins.append(margin.detach())
        chosen_logprobs.append(logprobs.detach()[its_pairs.chosen])
        return losses.total[torch.unique(its_pairs.prompt)].sum() / prompts

    if len(groups) > 1 and parameters is not None:
        loss = sum_with_gradients((partial(loss_of, group) for group in groups), parameters, loss_scale)
    else:
        loss = torch.stack([loss_of(group) for group in groups]).sum()
    dpo, nll = _together([losses.dpo for losses in seen]), _together([losses.nll for losses in seen])
    means = PairMeans(torch.cat(margins).mean(), torch.cat(chosen_logprobs).mean())
    return loss, PromptLosses(dpo, nll, objective.nll_weight), means


def frozen_loss(batch: LabelledBatch, objective: Objective) -> tuple[Tensor, PromptLosses, PairMeans]:
    """The same for a policy that is as it was when it wrote the responses: nothing is read again, and has no gradient.

    The DPO part is ln 2, since policy and reference are one.

    Args:
        batch: A labelled batch, with at least one pair.
        objective: What would be minimised.
    """
    pairs, n = batch.pairs, batch.responses.tokens.shape[1]
    flat = PairIndices(pairs.prompt, pairs.prompt * n + pairs.chosen, pairs.prompt * n + pairs.rejected)
    logprobs, lengths = batch.reference_logprobs.flatten(), batch.responses.mask.flatten(0, 1).sum(-1)  # (B n,) each
    losses, margin = objective.losses(flat, logprobs, logprobs, lengths, len(batch))
    means = PairMeans(margin.mean(), logprobs[flat.chosen].mean())
    return losses.total[torch.unique(pairs.prompt)].mean(), losses, means


def _together(parts: list[Tensor]) -> Tensor:
    """Each prompt's number from the group it is in; the others have NaN there. Shape ``(B,)``."""
    result = parts[0]
    for part in parts[1:]:
        result = torch.where(result.isnan(), part, result)
    return result
