"""What a trained batch says about the reward models that judged it.

The paper's signal is the negative training loss. It cannot tell a good reward model from a bad one by its DPO part: the
reference is the policy at the iteration's start, so the first loss is ln 2 whoever judged. Its NLL part can: it is low
for a reward model that prefers what the policy finds likely already.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import PromptLosses, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.metrics.matchers import Exact, Matcher
from laser_pl.seeds import derive_seed

ScoreAll = Callable[[list[int]], Tensor]
"""Scores of every reward model for some rows of the batch: rows to ``(K, len(rows), n)``. It costs K forwards."""


@dataclass(frozen=True)
class Observations:
    """What a signal measured: higher is better.

    Attributes:
        prompt: Row of the prompt. Shape ``(O,)``, int64.
        arm: The arm the value is about; not always the one that judged. Shape ``(O,)``, int64.
        value: Shape ``(O,)``, float64, finite.
        chance: The value to expect of a judge that scores at random, known before anybody judged. Shape ``(O,)``.
    """

    prompt: Tensor
    arm: Tensor
    value: Tensor
    chance: Tensor


class Signal(ABC):
    """Measures arms on a batch that was just trained."""

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names, in the order of their indices."""

    @abstractmethod
    def measure(self, batch: RolloutBatch, losses: PromptLosses, score_all: ScoreAll) -> Observations:
        """What this batch says.

        Args:
            batch: The batch with its preferences.
            losses: The training loss of each prompt.
            score_all: Asks every reward model about some rows.
        """

    def state_dict(self) -> dict[str, Any]:
        """What was learned; nothing for most signals."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""


def _of_judges(batch: RolloutBatch, values: Tensor, chance: Tensor) -> Observations:
    """Observations about the arms that judged, one per prompt, leaving out prompts without a value."""
    assert batch.preferences is not None
    values = values.detach().double().cpu()  # (B,)
    rows = torch.nonzero(values.isfinite()).squeeze(-1)
    return Observations(rows, batch.preferences.arms[rows], values[rows], chance.double().cpu()[rows])


def mean_by_arm(seen: Observations) -> Observations:
    """One observation per arm for a whole batch, whose only context is row 0."""
    arms = torch.tensor(sorted(set(seen.arm.tolist())), dtype=torch.long)  # (O,)
    of_arm = (seen.arm == arms[:, None]).double()  # (O, observations)
    of_arm = of_arm / of_arm.sum(-1, keepdim=True)
    return Observations(torch.zeros_like(arms), arms, of_arm @ seen.value, of_arm @ seen.chance)


def mean_nll(batch: RolloutBatch) -> Tensor:
    """Negative log-likelihood per token of each prompt's responses under the iteration's policy, their mean.

    It is what the NLL of a response chosen at random will be before training moves the policy. Shape ``(B,)``.
    """
    return -(batch.reference_logprobs / batch.responses.mask.sum(-1)).mean(-1)


class Loss(Signal):
    """The negative training loss, as in the paper: DPO + NLL if both are trained.

    By chance it is ln 2, the first value of any DPO loss, and the mean NLL of the prompt's responses.
    """

    def measure(self, batch: RolloutBatch, losses: PromptLosses, score_all: ScoreAll) -> Observations:
        """Minus the total loss of each prompt."""
        chance = -math.log(2) - losses.nll_weight * mean_nll(batch)
        return _of_judges(batch, -losses.total, chance)


class Nll(Signal):
    """The negative NLL part of the loss alone, which need not be trained: which judge chooses likely responses?"""

    def measure(self, batch: RolloutBatch, losses: PromptLosses, score_all: ScoreAll) -> Observations:
        """Minus the chosen responses' negative log-likelihood per token."""
        return _of_judges(batch, -losses.nll, -mean_nll(batch))


class Gap(Signal):
    """The judge's own decisiveness: the score gap of its pairs over the spread of its scores so far.

    A judge at home tells responses clearly apart; away from home its scores lie close together. It needs no labels and
    no further forward, but a judge that is confident and wrong fools it.
    """

    def __init__(self) -> None:
        self._arms: list[str] = []
        self._squares: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def start(self, arms: Sequence[str]) -> None:
        """Learn the judges' names, under which their spreads are kept."""
        self._arms = list(arms)

    def measure(self, batch: RolloutBatch, losses: PromptLosses, score_all: ScoreAll) -> Observations:
        """The mean gap of each prompt's pairs in standard deviations of its judge."""
        assert batch.preferences is not None
        arms, pairs = batch.preferences.arms, batch.preferences.pairs.to("cpu")
        scores = batch.preferences.scores.double().cpu()  # (B, n)
        for arm in sorted(set(arms.tolist())):
            own = scores[arms == arm]
            deviations = (own - own.nanmean(dim=-1, keepdim=True))[own.isfinite()]  # within a prompt
            name = self._arms[arm]
            self._squares[name] = self._squares.get(name, 0.0) + float(deviations.square().sum())
            self._counts[name] = self._counts.get(name, 0) + deviations.numel()
        gap = scores[pairs.prompt, pairs.chosen] - scores[pairs.prompt, pairs.rejected]  # (M,)
        count = torch.bincount(pairs.prompt, minlength=len(batch))
        mean = torch.zeros(len(batch), dtype=torch.float64).index_add(0, pairs.prompt, gap) / count  # (B,) NaN: no pair
        spread = torch.tensor([self._spread(self._arms[arm]) for arm in arms.tolist()], dtype=torch.float64)
        return _of_judges(batch, mean / spread, torch.zeros_like(mean))

    def _spread(self, name: str) -> float:
        return max(math.sqrt(self._squares[name] / max(self._counts[name], 1)), 1e-12)

    def state_dict(self) -> dict[str, Any]:
        """Each judge's spread."""
        return {"squares": dict(self._squares), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up each judge's spread."""
        self._squares, self._counts = dict(state["squares"]), dict(state["counts"])


class Trusted(Signal):
    """The trusted check: on a share of prompts with a known answer every reward model is asked, and all arms learn.

    The value is how often a reward model puts a right response above a wrong one (ties count half). It costs K forwards
    on those prompts.

    Args:
        share: Share of the prompts with an answer that are trusted, in (0, 1], chosen by a hash of the prompt.
        matcher: Decides whether a response gives the reference answer.
        seed: Root of the choice.
    """

    def __init__(
        self,
        share: float = 0.125,
        matcher: Matcher = Exact(),  # noqa: B008 - stateless
        seed: int = 0,
    ) -> None:
        if not 0 < share <= 1:
            raise ConfigurationError(f"share must be in (0, 1], got {share}. Set selection.signal.share in the config.")
        self.share = share
        self.matcher = matcher
        self.seed = seed

    def is_trusted(self, prompt_id: str) -> bool:
        """Whether this prompt's answer may be used."""
        return derive_seed(self.seed, "trusted", prompt_id) < self.share * 2**63

    def measure(self, batch: RolloutBatch, losses: PromptLosses, score_all: ScoreAll) -> Observations:
        """Every arm's share of pairs ordered rightly, on the trusted prompts that have right and wrong responses."""
        rows: list[int] = []
        right: list[Tensor] = []
        for row, prompt in enumerate(batch.prompts.prompts):
            if prompt.answer is None or not self.is_trusted(prompt.id):
                continue
            matches = torch.tensor([self.matcher.matches(text, prompt.answer) for text in batch.responses.texts[row]])
            if matches.any() and not matches.all():
                rows.append(row)
                right.append(matches)
        if not rows:
            nothing = torch.zeros(0, dtype=torch.long)
            return Observations(nothing, nothing, nothing.double(), nothing.double())
        scores = score_all(rows).double().cpu()  # (K, R, n)
        values = torch.tensor(
            [[float(share_ordered_rightly(own[r], right[r])) for own in scores] for r in range(len(rows))],
            dtype=torch.float64,
        )  # (R, K)
        place, arm = torch.nonzero(values.isfinite(), as_tuple=True)
        chance = torch.full((len(arm),), 0.5, dtype=torch.float64)
        return Observations(torch.tensor(rows)[place], arm, values[place, arm], chance)


def share_ordered_rightly(scores: Tensor, right: Tensor) -> Tensor:
    """Share of (right, wrong) response pairs in which the right one scores higher; ties count half.

    Args:
        scores: Shape ``(n,)``; NaN is no opinion.
        right: Shape ``(n,)``, bool.

    Returns:
        A scalar; NaN where no pair has an opinion.

    >>> share_ordered_rightly(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([False, True, False]))
    tensor(0.5000)
    """
    difference = scores[right][:, None] - scores[~right][None, :]
    difference = difference[difference.isfinite()]
    return ((difference > 0).to(scores.dtype) + 0.5 * (difference == 0)).mean()
