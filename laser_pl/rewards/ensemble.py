"""Several reward models as one: an ensemble is one arm, and costs a forward of each member."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.composite import Composite
from laser_pl.rewards.scores import abstentions, as_lists, as_tensor, labels


class Ensemble(Composite):
    """Asks all members and combines their scores of one prompt's responses.

    A member without an opinion on a response has no say in it; where no member has one there is no score.

    Args:
        reward_models: The members, by name.
    """

    def __init__(self, reward_models: dict[str, RewardModel]) -> None:
        super().__init__(reward_models)

    def forwards_per_response(self, n: int) -> float:
        """Those of all members."""
        return sum(member.forwards_per_response(n) for member in self.members)

    def forwards(self, prompts: Sequence[Prompt], n: int) -> float:
        """Those of all members."""
        return sum(member.forwards(prompts, n) for member in self.members)

    @property
    def heard(self) -> list[bool]:
        """Which members have a say. Length ``E``."""
        return [True] * len(self.members)

    @abstractmethod
    def combine(self, scores: Tensor) -> Tensor:
        """One score for each response.

        Args:
            scores: Of the ``E`` members; NaN is no opinion. Shape ``(E, B, n)``, float64.

        Returns:
            Shape ``(B, n)``.
        """

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """The combined scores, and None where all members said so: ``B`` lists of ``n``."""
        shape = len(prompts), len(responses[0])
        opinions, silent = [], torch.ones(shape, dtype=torch.bool)
        for (name, member), heard in zip(self.reward_models.items(), self.heard, strict=True):
            scores = member.score(prompts, responses)
            values = as_tensor(scores, shape, f"The ensemble's member '{name}'")
            opinions.append(labels(scores, values)[0])
            if heard:
                silent &= abstentions(scores, values)
        return as_lists(self.combine(torch.stack(opinions)), silent)


class MeanEnsemble(Ensemble):
    """The mean of the members' standardised scores: the paper's "score ensemble"."""

    def combine(self, scores: Tensor) -> Tensor:
        """Mean over members."""
        return standardised(scores).nanmean(0)


class MinEnsemble(Ensemble):
    """The lowest of the members' standardised scores: good is what nobody objects to."""

    def combine(self, scores: Tensor) -> Tensor:
        """Minimum over members."""
        scores = standardised(scores)
        lowest = scores.nan_to_num(float("inf")).amin(0)
        return lowest.masked_fill(lowest.isinf(), float("nan"))


class CautiousEnsemble(Ensemble):
    r"""The mean of the standardised scores minus ``caution`` times their spread.

    It is :math:`\mu - k\sigma` with k = ``caution``. Uncertainty-weighted optimisation (Coste et al. 2023) with the
    standard deviation in place of the variance, so that both terms have the same unit. The deviation is that of the
    population: two members that differ by 2 have 1.

    Args:
        reward_models: The members, by name.
        caution: Spreads that are taken off the mean, >= 0.
    """

    def __init__(self, reward_models: dict[str, RewardModel], caution: float = 0.5) -> None:
        if not caution >= 0:
            raise ConfigurationError(f"caution must be >= 0, got {caution}. Set it in the ensemble's config.")
        super().__init__(reward_models)
        self.caution = caution

    def combine(self, scores: Tensor) -> Tensor:
        """Mean less disagreement."""
        scores = standardised(scores)
        mean = scores.nanmean(0)  # (B, n)
        return mean - self.caution * (scores - mean).square().nanmean(0).sqrt()


class AgreementEnsemble(Ensemble):
    """A response's majorities won minus lost against the others, each member with one vote."""

    def combine(self, scores: Tensor) -> Tensor:
        """Mean over the others of the majority's sign (Copeland's rule); ties and equal votes count nothing."""
        votes = (scores[..., :, None] - scores[..., None, :]).nan_to_num(0.0).sign()  # (E, B, n, n)
        majority = votes.sum(0).sign()  # (B, n, n)
        known = (~scores.isnan()).any(0)  # (B, n)
        return majority.mean(-1).masked_fill(~known, float("nan"))


def standardised(scores: Tensor, within: Literal["prompt", "batch"] = "prompt") -> Tensor:
    """Each member's scores of each prompt's responses with mean 0 and standard deviation 1; all equal become 0.

    Within a prompt, since only there scores are compared; so it needs no history, and a score does not depend on which
    other prompts share its batch.

    Args:
        scores: NaN is no opinion. Shape ``(E, B, n)``.
        within: With ``batch``, of all prompts' responses.

    Returns:
        Shape ``(E, B, n)``.
    """
    over = (-1,) if within == "prompt" else (-2, -1)
    centred = scores - scores.nanmean(over, keepdim=True)
    deviation = centred.square().nanmean(over, keepdim=True).sqrt()
    # What is left of equal scores is rounding.
    noise = 1e-9 * scores.abs().nan_to_num(0.0).amax(over, keepdim=True)
    return torch.where(deviation > noise, centred / deviation, 0.0 * centred)
