"""What speaks for each reward model on prompts of one category: evidence without answers, and a few answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

CHANCE = 0.5
"""Share of pairs that a reward model orders rightly which scores at random."""
PAIRS_OF_AN_ANSWER = 4
"""So many pairs of right and wrong responses to one prompt make a whole answer; more share the prompt's difficulty."""
MISLED_FROM = 0.05
"""How unlikely the answers must be, if likelihoods did not mislead, before it is said that they do."""
_EXACT = 12
"""Prompts up to which all patterns of signs are counted; with more, their sum is taken to be normal."""


@dataclass
class Mean:
    """A mean that grows.

    Attributes:
        total: The sum.
        count: Of how many values.
    """

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Take a value in; NaN is none."""
        if not math.isnan(value):
            self.total, self.count = self.total + value, self.count + 1

    @property
    def value(self) -> float | None:
        """None without a value."""
        return self.total / self.count if self.count else None


@dataclass
class Answered:
    """A prompt whose answer is known.

    Attributes:
        weight: What it counts for: 1 for a whole answer, less where few pairs of its responses tell, 0 where none does.
        accuracy: Share of pairs that each arm ordered rightly, by name.
    """

    weight: float = 0.0
    accuracy: dict[str, Mean] = field(default_factory=dict)


class Evidence:
    r"""What is known of each arm on one category.

    Arm k's worth is the share of pairs of right and wrong responses that it is expected to order rightly,

    .. math:: v_k = \frac{\sum_i w_i a_{ik} + w_0 f_k}{\sum_i w_i + w_0},

    where :math:`a_{ik}` is that share on the answered prompt i, :math:`w_i = \min(1, \text{pairs} / 4)` what it counts
    for, and :math:`f_k = \frac{1}{2} + \frac{\sqrt\pi}{2} g_k` what is expected without answers. The gain
    :math:`g_k` is that of ``Cooling`` by ranks, in spreads of the arm's scores: how much higher it scores the likelier
    of two responses than one of them. Normal scores that always order two as their likelihoods do have the gain
    :math:`1 / \sqrt\pi`, and so the share 1; those that know nothing of it have the gain 0, and so the share a half.

    Args:
        worth: :math:`w_0`, how many answers the evidence without answers counts for.

    >>> known = Evidence(worth=1.0)
    >>> known.gain("a", 0.2)
    >>> round(known.value("a"), 3)
    0.677
    >>> known.answer("prompt 7", {"a": 0.0}, pairs=9)
    >>> round(known.value("a"), 3)
    0.339
    """

    def __init__(self, worth: float) -> None:
        self.worth = worth
        self.gains: dict[str, Mean] = {}
        self.answers: dict[str, Answered] = {}

    def gain(self, arm: str, value: float) -> None:
        """Take in an arm's gain on a prompt; NaN where it has no opinion."""
        self.gains.setdefault(arm, Mean()).add(value)

    def answer(self, prompt: str, accuracy: Mapping[str, float], pairs: int) -> None:
        """Take in how each arm ordered an answered prompt's responses.

        Args:
            prompt: Its id; what is said of it again is averaged.
            accuracy: Share of pairs ordered rightly, by arm; NaN where it has no opinion.
            pairs: Of a right and a wrong response; 0 if its responses tell nothing.
        """
        known = self.answers.setdefault(prompt, Answered())
        known.weight = max(known.weight, min(1.0, pairs / PAIRS_OF_AN_ANSWER))
        for arm, value in accuracy.items():
            known.accuracy.setdefault(arm, Mean()).add(value)

    def without_answers(self, arm: str) -> float:
        """The share of pairs that an arm is expected to order rightly, by its gain alone; a half without one."""
        gain = self.gains[arm].value if arm in self.gains else None
        return CHANCE if gain is None else min(1.0, max(0.0, CHANCE + math.sqrt(math.pi) / 2 * gain))

    def by_answers(self, arm: str) -> tuple[float, float]:
        """The share it ordered rightly, in the weighted mean of answered prompts (a half: none), and the weight."""
        found = [(known.weight, share) for known in self.answers.values() if (share := _of(known, arm)) is not None]
        weight = sum(weight for weight, _ in found)
        return (sum(w * share for w, share in found) / weight if weight else CHANCE), weight

    def value(self, arm: str) -> float:
        """What an arm is worth, by all that is known."""
        share, weight = self.by_answers(arm)
        total = weight + self.worth
        return (weight * share + self.worth * self.without_answers(arm)) / total if total else CHANCE

    def chance_of_misleading(self, arms: Sequence[str]) -> float:
        r"""How likely answers as bad as these are for the arms that likelihoods favour, were they no worse than others.

        On each answered prompt :math:`s_i = \sum_k (f_k - \bar f) a_{ik}` is above 0 if the favoured arms order its
        responses better than the others do. Without a difference each :math:`s_i` could as well have the other sign: a
        one-sided sign-flip test (Fisher 1935), exact up to 12 prompts.

        Args:
            arms: Among whom.

        Returns:
            1 without an answer that tells. With m answers it cannot be below :math:`2^{-m}`.
        """
        contrasts = []
        for known in self.answers.values():
            shares = {arm: share for arm in arms if (share := _of(known, arm)) is not None}
            favour = {arm: self.without_answers(arm) for arm in shares}
            usual = sum(favour.values()) / max(len(favour), 1)
            if known.weight > 0:
                contrasts.append(sum((favour[arm] - usual) * share for arm, share in shares.items()))
        return probability_of_so_low(contrasts)

    def state_dict(self) -> dict[str, Any]:
        """All of it, as builtins."""
        return {
            "gains": _as_lists(self.gains),
            "answers": {
                prompt: {"weight": known.weight, "accuracy": _as_lists(known.accuracy)}
                for prompt, known in self.answers.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it up."""
        self.gains = _as_means(state["gains"])
        self.answers = {
            prompt: Answered(known["weight"], _as_means(known["accuracy"]))
            for prompt, known in state["answers"].items()
        }


def probability_of_so_low(values: Iterable[float]) -> float:
    """The share of sign patterns with which the sum would be as low as it is, or lower.

    Args:
        values: Those that are 0 say nothing.

    >>> probability_of_so_low([-1.0, -2.0, -0.5]), probability_of_so_low([])
    (0.125, 1.0)
    """
    told = [value for value in values if value != 0]
    if len(told) > _EXACT:
        z = sum(told) / math.sqrt(sum(value**2 for value in told))
        return 0.5 * math.erfc(-z / math.sqrt(2))
    sizes = torch.tensor([abs(value) for value in told], dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=len(told))), dtype=torch.float64)
    bound = sum(told) + 1e-9 * float(sizes.sum())
    return float((signs @ sizes <= bound).double().mean())


def _of(known: Answered, arm: str) -> float | None:
    return known.accuracy[arm].value if arm in known.accuracy and known.weight > 0 else None


def _as_lists(means: Mapping[str, Mean]) -> dict[str, list[float]]:
    return {name: [mean.total, mean.count] for name, mean in means.items()}


def _as_means(lists: Mapping[str, Sequence[float]]) -> dict[str, Mean]:
    return {name: Mean(total, int(count)) for name, (total, count) in lists.items()}
