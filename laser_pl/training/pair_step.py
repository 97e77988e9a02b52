"""The loss of one training batch, computed group by group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial, reduce

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, PairIndices
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.logprobs.micro_batches import MicroBatch
from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.training.summed_gradients import sum_with_gradients


def batch_loss(
    batch: LabelledBatch,
    logprob_model: LogprobModel,
    objective: Objective,
    parameters: Iterable[torch.nn.Parameter] | None,
    loss_scale: float = 1.0,
) -> tuple[Tensor, LossOutputs, Mapping[str, Tensor]]:
    """The mean loss over the prompts that have one.

    Every response that the objective uses is computed once, however many pairs it is in. Prompts do not depend on one
    another but for the mean, so a batch that exceeds the model's budget is computed in groups of prompts.

    Args:
        batch: A labelled batch, with something that the objective uses in this process or, where weights are shared
            out, in another.
        logprob_model: Computes log-probabilities of responses.
        objective: What is minimised.
        parameters: Where given, groups are differentiated with respect to these one after the other, at once. Otherwise
            they are all in one graph, and their activations are computed again in its backward pass.
        loss_scale: Factor on a loss while it is differentiated at once.

    Returns:
        The loss, with gradient, ``()``; the loss of each prompt, without; and the objective's ``means``, without.
    """
    pairs, n, uses = batch.pairs, batch.responses.tokens.shape[1], objective.uses(batch)
    used = torch.nonzero(uses.flatten()).squeeze(-1)  # (U,)
    tokens, mask = batch.responses.tokens.flatten(0, 1)[used], batch.responses.mask.flatten(0, 1)[used]
    responses = ResponseBatch(batch.prompts, used // n, tokens, mask)
    reference, lengths = batch.reference_logprobs.flatten()[used], mask.sum(-1)  # (U,), (U,)
    scores = batch.scores.flatten().to(used.device)[used]  # (U,)
    accuracy = batch.accuracy.to(used.device)  # (B,)
    prompts = int(uses.any(-1).sum())
    groups = logprob_model.groups_to_train(responses)
    seen: list[LossOutputs] = []
    of_each: list[dict[str, Tensor]] = []

    def loss_of(group: list[MicroBatch]) -> Tensor:
        if not any(group):
            return logprob_model.group_logprobs(responses, group, recompute=False).sum()
        rows = torch.tensor([row for part in group for row in part], device=used.device)
        place = torch.full_like(uses.flatten(), -1, dtype=torch.long)  # (B n,)
        place[used[rows]] = torch.arange(len(rows), device=used.device)
        chosen, rejected = (place[pairs.prompt * n + response] for response in (pairs.chosen, pairs.rejected))
        mine = chosen >= 0  # (M,)  all responses of a prompt are in one group
        its_pairs = PairIndices(pairs.prompt[mine], chosen[mine], rejected[mine])
        of = used[rows] // n
        logprobs = logprob_model.group_logprobs(responses, group, recompute=len(groups) > 1 and parameters is None)
        before = reference[rows].to(logprobs.dtype)
        inputs = LossInputs(its_pairs, logprobs, before, lengths[rows], len(batch), of, scores[rows], accuracy)
        losses = objective.loss(inputs)
        seen.append(losses.detach())
        with torch.no_grad():
            of_each.append(objective.of_each(inputs))
        each = of if n == 1 else torch.unique(of)  # each prompt once; as they were read, where that is so already
        return losses.per_prompt[each].sum() / prompts

    if len(groups) > 1 and parameters is not None:
        loss = sum_with_gradients((partial(loss_of, group) for group in groups), parameters, loss_scale)
    else:
        loss = torch.stack([loss_of(group) for group in groups]).sum()
    if not seen:
        return loss, *nothing_seen(len(batch), objective, used.device)
    means = {name: torch.cat([values[name] for values in of_each]).mean() for name in objective.means}
    return loss, _together(seen), means


def nothing_seen(prompts: int, objective: Objective, device: torch.device) -> tuple[LossOutputs, Mapping[str, Tensor]]:
    """The losses of prompts that have none, and means over nothing, which are 0."""
    none = torch.full((prompts,), torch.nan, device=device)
    unknown = LossOutputs(none, dict.fromkeys(objective.parts, none))
    return unknown, dict.fromkeys(objective.means, torch.zeros((), device=device))


def frozen_loss(batch: LabelledBatch, objective: Objective) -> tuple[Tensor, LossOutputs, Mapping[str, Tensor]]:
    """The same for a policy that is as it was when it wrote the responses: nothing is read again, and has no gradient.

    Args:
        batch: With something that the objective uses.
        objective: What would be minimised.
    """
    pairs, n, uses = batch.pairs, batch.responses.tokens.shape[1], objective.uses(batch)
    used = torch.nonzero(uses.flatten()).squeeze(-1)  # (U,)
    place = uses.flatten().cumsum(0) - 1  # (B n,)
    chosen, rejected = (place[pairs.prompt * n + response] for response in (pairs.chosen, pairs.rejected))
    logprobs, lengths = batch.reference_logprobs.flatten()[used], batch.responses.mask.sum(-1).flatten()[used]
    scores = batch.scores.flatten().to(used.device)[used]
    of_pairs = PairIndices(pairs.prompt, chosen, rejected)
    accuracy = batch.accuracy.to(used.device)
    inputs = LossInputs(of_pairs, logprobs, logprobs, lengths, len(batch), used // n, scores, accuracy)
    losses = objective.loss(inputs)
    means = {name: values.mean() for name, values in objective.of_each(inputs).items()}
    return losses.per_prompt[uses.any(-1)].mean(), losses, means


def _together(seen: list[LossOutputs]) -> LossOutputs:
    """Each prompt's numbers from the group it is in; the others have NaN there."""

    def joined(values: Iterable[Tensor]) -> Tensor:
        return reduce(lambda found, other: torch.where(found.isnan(), other, found), values)

    parts = {name: joined(losses.parts[name] for losses in seen) for name in seen[0].parts}
    return LossOutputs(joined(losses.per_prompt for losses in seen), parts)
