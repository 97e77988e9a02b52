"""Objectives of pairs: one term for chosen against rejected, and the likelihood of the chosen."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from laser_pl.batches import LOSS, PairIndices, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.objectives.nll import mean_nll, nll_loss

NLL = "nll"


class PairObjective(Objective):
    """The mean over a prompt's pairs of ``pair_losses``, and ``nll_weight`` times the NLL of the chosen.

    Args:
        nll_weight: Weight of the chosen response's negative log-likelihood per token, >= 0; 0 leaves it out.

    Attributes:
        name: Of the first term, in logs and records.
        from_reference: Whether the first term sees of the policy only how it moved away from the reference. It then
            says nothing about the labels at the iteration's start, where they are one.
    """

    name: ClassVar[str]
    from_reference: ClassVar[bool] = True

    def __init__(self, nll_weight: float = 1.0) -> None:
        self.nll_weight = at_least_0(nll_weight, "nll_weight")

    @abstractmethod
    def pair_losses(self, inputs: LossInputs) -> Tensor:
        """The first term of each pair. Shape ``(M,)``."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The first term, and ``nll``."""
        return self.name, NLL

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """See ``Objective``."""
        pairs, chosen = inputs.pairs, inputs.pairs.chosen
        of_pairs = mean_per_prompt(self.pair_losses(inputs), pairs.prompt, inputs.prompts)  # (B,)
        nll = mean_per_prompt(nll_loss(inputs.logprobs[chosen], inputs.lengths[chosen]), pairs.prompt, inputs.prompts)
        return LossOutputs(of_pairs + self.nll_weight * nll, {self.name: of_pairs, NLL: nll})

    def by_chance(self, batch: RolloutBatch) -> dict[str, Tensor]:
        """As if each response were as likely to be chosen, or rejected, as another."""
        nll = mean_nll(batch)  # (B,)
        inputs = _unmoved(len(batch)) if self.from_reference else _all_pairs(batch)
        of_pairs = mean_per_prompt(self.pair_losses(inputs), inputs.pairs.prompt, len(batch)).to(nll)
        return {LOSS: of_pairs + self.nll_weight * nll, self.name: of_pairs, NLL: nll}

    def informs(self, part: str) -> bool:
        """The first term does not where it starts from the reference; nor does the loss, if that is all of it."""
        return not self.from_reference or part == NLL or (part == LOSS and self.nll_weight > 0)


def _unmoved(prompts: int) -> LossInputs:
    """One pair of each prompt, whichever, under a policy that is the reference."""
    each, zeros = torch.arange(prompts), torch.zeros(2, dtype=torch.float64)
    pairs = PairIndices(each, torch.zeros_like(each), torch.ones_like(each))
    return LossInputs(pairs, zeros, zeros, torch.ones(2), prompts, torch.zeros_like(each[:2]), zeros, _unknown(prompts))


def _all_pairs(batch: RolloutBatch) -> LossInputs:
    """Every response of a prompt against every other, under a policy that is the reference."""
    logprobs = batch.reference_logprobs.double()  # (B, n)
    prompts, n = logprobs.shape
    chosen, rejected = torch.nonzero(~torch.eye(n, dtype=torch.bool, device=logprobs.device), as_tuple=True)
    first = n * torch.arange(prompts, device=logprobs.device)[:, None]  # (B, 1)
    prompt = torch.arange(prompts, device=logprobs.device).repeat_interleave(len(chosen))
    pairs = PairIndices(prompt, (first + chosen).flatten(), (first + rejected).flatten())
    lengths = batch.responses.mask.sum(-1).flatten()
    of = torch.arange(prompts, device=logprobs.device).repeat_interleave(n)  # (B n,)
    flat = logprobs.flatten()
    return LossInputs(
        pairs, flat, flat, lengths, prompts, of, torch.full_like(flat, torch.nan), _unknown(prompts).to(flat.device)
    )


def _unknown(prompts: int) -> Tensor:
    return torch.full((prompts,), torch.nan, dtype=torch.float64)


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


def above_0(value: float, name: str, setting: str = "model.objective.init_args") -> float:
    """A setting that must be > 0 and finite.

    Args:
        value: Its value.
        name: Its name.
        setting: The section it stands in.

    Raises:
        ConfigurationError: If it is not.
    """
    if not 0 < value < math.inf:
        raise ConfigurationError(f"{name} must be > 0 and finite, got {value}. Set {setting}.{name} in the config.")
    return value


def at_least_0(value: float, name: str, setting: str = "model.objective.init_args") -> float:
    """A setting that must be >= 0 and finite; the rest as of ``above_0``."""
    if not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be >= 0 and finite, got {value}. Set {setting}.{name} in the config.")
    return value
