"""What every objective promises, whatever it minimises."""

from __future__ import annotations

import torch
from torch import Tensor

from laser_pl.batches import LOSS, PairIndices, Prompt, PromptBatch, Responses, RolloutBatch
from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.testing.promises import hold

N, LENGTHS = 3, (2, 5, 3, 4, 1, 7)
"""Responses to each of two prompts, and the tokens of each."""


def check_objective(objective: Objective) -> None:
    """Hold an objective of pairs to what training and selection rely on.

    Args:
        objective: As a configuration makes it.

    Raises:
        AssertionError: If a promise is broken; it says which.
    """
    for promise in PROMISES:
        promise(objective)


def parts_have_names_of_their_own(objective: Objective) -> None:
    """They are columns of ``metrics.csv`` and keys of ``selection.jsonl``, beside ``loss``."""
    parts, outputs = objective.parts, _loss(objective, [(0, 1, 0), (1, 0, 2)])
    hold(
        len(set(parts)) == len(parts) and LOSS not in parts and all(part.isidentifier() for part in parts),
        f"parts must be different names, none of them '{LOSS}', got {parts}.",
    )
    hold(set(outputs.parts) == set(parts), f"loss() gave the parts {sorted(outputs.parts)}, and parts says {parts}.")


def prompts_without_pairs_have_no_loss(objective: Objective) -> None:
    """NaN there, finite elsewhere; and nothing of them is in the gradient."""
    logprobs = _logprobs().requires_grad_()
    outputs = objective.loss(_inputs([(1, 0, 2), (1, 1, 2)], logprobs))
    for name, values in outputs.by_name().items():
        hold(values.shape == (2,), f"'{name}' must have the shape (prompts,), got {tuple(values.shape)}.")
        hold(
            values.isnan().tolist() == [True, False],
            f"'{name}' must be NaN for a prompt without pairs and finite for one with, got {values.tolist()}.",
        )
    (gradient,) = torch.autograd.grad(outputs.per_prompt[1], logprobs)
    hold(gradient.isfinite().all(), f"The gradient must be finite, got {gradient.tolist()}.")
    hold(not gradient[:N].any(), "The loss of one prompt depends on the responses to another.")


def prompts_do_not_depend_on_one_another(objective: Objective) -> None:
    """Whether they are computed together or one after the other, as memory allows."""
    both, alone = [(0, 1, 0), (0, 2, 1), (1, 0, 2)], [(1, 0, 2)]
    for name, values in _loss(objective, both).by_name().items():
        apart = _loss(objective, alone).by_name()[name]
        hold(
            torch.allclose(values[1], apart[1], rtol=0, atol=1e-10),
            f"'{name}' of a prompt is {float(values[1])} beside another one and {float(apart[1])} alone.",
        )


def chance_is_what_labels_at_random_give(objective: Objective) -> None:
    """Averaged over every pair there could be, under the policy that wrote the responses."""
    batch = _batch()
    by_chance = objective.by_chance(batch)
    hold(
        set(by_chance) == {LOSS, *objective.parts},
        f"by_chance() must give '{LOSS}' and the parts, got {sorted(by_chance)}.",
    )
    every = [(chosen, rejected) for chosen in range(N) for rejected in range(N) if chosen != rejected]
    unmoved = batch.reference_logprobs.flatten()
    seen = [objective.loss(_inputs([(0, *pair), (1, *pair)], unmoved, unmoved)).by_name() for pair in every]
    for name, values in by_chance.items():
        hold(values.shape == (2,), f"by_chance()['{name}'] must have the shape (prompts,), got {tuple(values.shape)}.")
        first = torch.stack([losses[name] for losses in seen])  # (pairs, 2)
        hold(
            torch.allclose(values.double(), first.mean(0), rtol=0, atol=1e-6),
            f"by_chance()['{name}'] is {values.tolist()}, and labels at random give {first.mean(0).tolist()}.",
        )
        alike = bool((first.std(0) < 1e-9).all())
        hold(
            objective.tells(name) != alike,
            f"tells('{name}') is {objective.tells(name)}, and before training moves the policy its values"
            f" {'are the same whoever is chosen' if alike else 'differ with who is chosen'}.",
        )


def _loss(objective: Objective, pairs: list[tuple[int, int, int]]) -> LossOutputs:
    return objective.loss(_inputs(pairs, _logprobs()))


def _logprobs() -> Tensor:
    return _batch().reference_logprobs.flatten() + torch.tensor([0.3, -0.2, 0.1, 0.5, -0.4, 0.25], dtype=torch.float64)


def _inputs(pairs: list[tuple[int, int, int]], logprobs: Tensor, reference: Tensor | None = None) -> LossInputs:
    """Pairs as prompt, chosen and rejected."""
    prompt, chosen, rejected = torch.tensor(pairs).unbind(-1)
    if reference is None:
        reference = _batch().reference_logprobs.flatten()
    flat = PairIndices(prompt, N * prompt + chosen, N * prompt + rejected)
    return LossInputs(flat, logprobs, reference, torch.tensor(LENGTHS), prompts=2)


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
    prompts_without_pairs_have_no_loss,
    prompts_do_not_depend_on_one_another,
    chance_is_what_labels_at_random_give,
)
