"""What every objective promises, whatever it minimises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import LOSS, PairIndices, Prompt, PromptBatch, Responses, RolloutBatch
from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.testing.promises import hold

N, LENGTHS = 3, (2, 5, 3, 4, 1, 7)
"""Responses to each of two prompts, and the tokens of each."""
Labels = Mapping[int, Sequence[Any]]
"""By prompt: pairs of chosen and rejected, the scores of its responses, or which of them are the written ones."""


def check_objective(objective: Objective) -> None:
    """Hold an objective of pairs, of scores or of written responses to what training and selection rely on.

    Args:
        objective: As a configuration makes it.

    Raises:
        AssertionError: If a promise is broken; it says which.
    """
    for promise in PROMISES:
        promise(objective)


def parts_have_names_of_their_own(objective: Objective) -> None:
    """They are columns of ``metrics.csv`` and keys of ``selection.jsonl``, beside ``loss``; so are its means."""
    parts, inputs = objective.parts, _inputs(objective, _both(objective), _logprobs())
    outputs = objective.loss(inputs)
    names = (*parts, *objective.means)
    hold(
        len(set(names)) == len(names) and LOSS not in names and all(name.isidentifier() for name in names),
        f"parts and means must be different names, none of them '{LOSS}', got {names}.",
    )
    hold(set(outputs.parts) == set(parts), f"loss() gave the parts {sorted(outputs.parts)}, and parts says {parts}.")
    means = set(objective.of_each(inputs))
    hold(means == set(objective.means), f"of_each() gave {sorted(means)}, and means says {objective.means}.")


def prompts_without_labels_have_no_loss(objective: Objective) -> None:
    """NaN there, finite elsewhere; and nothing of them is in the gradient."""
    logprobs = _logprobs().requires_grad_()
    outputs = objective.loss(_inputs(objective, _only_second(objective), logprobs))
    for name, values in outputs.by_name().items():
        hold(values.shape == (2,), f"'{name}' must have the shape (prompts,), got {tuple(values.shape)}.")
        hold(
            values.isnan().tolist() == [True, False],
            f"'{name}' must be NaN for a prompt without {objective.needs} and finite for one with, got"
            f" {values.tolist()}.",
        )
    (gradient,) = torch.autograd.grad(outputs.per_prompt[1], logprobs)
    hold(gradient.isfinite().all(), f"The gradient must be finite, got {gradient.tolist()}.")
    hold(not gradient[:N].any(), "The loss of one prompt depends on the responses to another.")


def prompts_do_not_depend_on_one_another(objective: Objective) -> None:
    """Whether they are computed together or one after the other, as memory allows."""
    both, alone = _loss(objective, _both(objective)), _loss(objective, _only_second(objective))
    for name, values in both.by_name().items():
        apart = alone.by_name()[name]
        hold(
            torch.allclose(values[1], apart[1], rtol=0, atol=1e-10),
            f"'{name}' of a prompt is {float(values[1])} beside another one and {float(apart[1])} alone.",
        )


def chance_is_what_labels_at_random_give(objective: Objective) -> None:
    """Averaged over every label there could be, under the policy that wrote the responses."""
    batch = _batch()
    by_chance = objective.by_chance(batch)
    hold(
        set(by_chance) == {LOSS, *objective.parts},
        f"by_chance() must give '{LOSS}' and the parts, got {sorted(by_chance)}.",
    )
    unmoved = batch.reference_logprobs.flatten()
    every = [_inputs(objective, {0: labels, 1: labels}, unmoved, unmoved) for labels in _every(objective)]
    seen = [objective.loss(inputs).by_name() for inputs in every]
    for name, values in by_chance.items():
        hold(values.shape == (2,), f"by_chance()['{name}'] must have the shape (prompts,), got {tuple(values.shape)}.")
        first = torch.stack([losses[name] for losses in seen])  # (labels, 2)
        hold(
            torch.allclose(values.double(), first.mean(0), rtol=0, atol=1e-6),
            f"by_chance()['{name}'] is {values.tolist()}, and labels at random give {first.mean(0).tolist()}.",
        )
        alike = bool((first.std(0) < 1e-9).all())
        hold(
            objective.informs(name) != alike,
            f"informs('{name}') is {objective.informs(name)}, and before training moves the policy its values"
            f" {'are the same whoever scored' if alike else 'differ with who scored'}.",
        )


def only_what_tells_responses_apart_is_used(objective: Objective) -> None:
    """Not a prompt without pairs, nor one whose scores are the same, nor a response without a score.

    Of written responses all.
    """
    first = torch.tensor([[1.0, 1.0, torch.nan], [2.0, torch.nan, 0.5]], dtype=torch.float64)
    pairs = PairIndices(*torch.tensor([[1], [0], [2]]))
    if objective.needs == "scores":
        pairs = PairIndices(*torch.empty(3, 0, dtype=torch.long))
    if objective.judged:
        batch, used = (
            _batch().labelled(torch.zeros(2, dtype=torch.long), first, pairs),
            [[False] * N, [True, False, True]],
        )
    else:
        batch, used = _batch().unjudged(), [[True] * N] * 2
    uses = objective.uses(batch)
    hold(
        uses.tolist() == used,
        f"uses() must be true of responses in pairs, with scores that differ, or written, alone, got {uses.tolist()}.",
    )
    count = {"pairs": 1, "scores": 2, "answers": 2 * N}[objective.needs]
    labels = objective.labels(batch)
    hold(labels == count, f"labels() must be the number of {objective.needs}, {count} here, got {labels}.")


def _both(objective: Objective) -> Labels:
    if objective.needs == "pairs":
        return {0: [(1, 0), (2, 1)], 1: [(0, 2)]}
    if objective.needs == "answers":
        return {0: [1], 1: [2]}
    return {0: (0.5, 2.0, -1.0), 1: (1.0, 0.0, 0.25)}


def _only_second(objective: Objective) -> Labels:
    return {1: _both(objective)[1]}


def _every(objective: Objective) -> list[Sequence[Any]]:
    """All labels that a prompt could get, each as likely as another."""
    if objective.needs == "pairs":
        return [[pair] for pair in permutations(range(N), 2)]
    if objective.needs == "answers":
        return [[written] for written in range(N)]
    return list(permutations((0.0, 1.0, 3.0)))


def _loss(objective: Objective, labels: Labels) -> LossOutputs:
    return objective.loss(_inputs(objective, labels, _logprobs()))


def _logprobs() -> Tensor:
    return _batch().reference_logprobs.flatten() + torch.tensor([0.3, -0.2, 0.1, 0.5, -0.4, 0.25], dtype=torch.float64)


def _inputs(objective: Objective, labels: Labels, logprobs: Tensor, reference: Tensor | None = None) -> LossInputs:
    """Of two prompts; for an objective that takes no pairs, of the responses to those that have labels."""
    if reference is None:
        reference = _batch().reference_logprobs.flatten()
    pairs: list[tuple[int, int, int]] = []
    scores = torch.full((2, N), torch.nan, dtype=torch.float64)
    used = torch.arange(2 * N)
    if objective.needs == "pairs":
        pairs = [(row, N * row + one, N * row + other) for row, own in labels.items() for one, other in own]
    elif objective.needs == "scores":
        for row, own in labels.items():
            scores[row] = torch.tensor(own, dtype=torch.float64)
        used = torch.nonzero(scores.flatten().isfinite()).squeeze(-1)
    else:
        used = torch.tensor([N * row + written for row, own in labels.items() for written in own])
    flat = PairIndices(*torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).unbind(-1))
    lengths = torch.tensor(LENGTHS)[used]
    accuracy = torch.tensor([0.75, torch.nan], dtype=torch.float64)
    return LossInputs(flat, logprobs[used], reference[used], lengths, 2, used // N, scores.flatten()[used], accuracy)


def _batch() -> RolloutBatch:
    """Two prompts with three responses each, of unlike lengths and likelihoods."""
    lengths = torch.tensor(LENGTHS).view(2, N)
    mask = (torch.arange(max(LENGTHS)) < lengths[..., None]).long()
    one = torch.ones(2, 1, dtype=torch.long)
    prompts = PromptBatch((Prompt("a", "a", "a"), Prompt("b", "b", "b")), one, one)
    responses = Responses(mask.clone(), mask, torch.ones(2, N, dtype=torch.bool), [["x"] * N] * 2)
    reference = -lengths * torch.tensor([[0.5, 1.25, 2.0], [0.75, 1.5, 0.25]], dtype=torch.float64)
    return RolloutBatch(prompts, responses, torch.zeros(2, 1), reference, iteration=0)


PROMISES = (
    parts_have_names_of_their_own,
    prompts_without_labels_have_no_loss,
    prompts_do_not_depend_on_one_another,
    chance_is_what_labels_at_random_give,
    only_what_tells_responses_apart_is_used,
)
