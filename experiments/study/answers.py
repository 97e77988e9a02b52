"""Which reward model would a few answers name, before anything is trained? Samples of the start policies, no fit.

Run:  python experiments/study/answers.py
Cost: about 3 min on one CPU core.

As in ``signals.py``, but some of the prompts of a category have an answer. What counts is how often the response that
the named arm puts first is right, relative to the best arm of the pool. It compares what the evidence without answers
may count for, with answers alone and with the prediction-powered mean (the gain's mean over all prompts, corrected by
its residual on the answered ones); which questions are worth asking; and how often it is said that likelihoods mislead.
It writes its section of ``RESULTS.md``, or where --results says. ``--worlds third`` looks where
``third_world/build.py`` has run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from candidates import Sampled, of_the_first
from signals import POOL_NAMES, PROMPTS, TITLES, are_right, samples, scores_of, write
from torch import Tensor
from worlds import WORLDS

from laser_pl.feedback.evidence import CHANCE, MISLED_FROM, PAIRS_OF_AN_ANSWER, Evidence
from laser_pl.feedback.signals.cooling import gain_of_the_likelier
from laser_pl.feedback.signals.trusted import share_ordered_rightly

COUNTS = [0, 1, 2, 4, 8, 16]
FREE = 64
"""Prompts of the category on which all arms are asked without answers."""
DRAWS = 200
WORTHS = [0, 1, 2, 4, 8]
WORTH = 4
"""What the signal takes."""
ASKED = [2, 4, 8]
TRIED = 4
"""Prompts that are tried for each question that is wanted."""
SHOWN = 4
"""Unlike responses that ``label`` shows."""


@dataclass(frozen=True)
class Answers:
    """What is known of the prompts of one category in one pool.

    Attributes:
        gains: Each arm's gain of the likelier, in spreads. Shape ``(K, B)``.
        shares: Share of pairs that it orders rightly; 0 where there are none. Shape ``(K, B)``.
        weights: What each answer counts for. Shape ``(B,)``.
        quality: How often the response that the arm puts first is right, over the same of the best arm. ``(K,)``.
        unlike: How many responses differ. Shape ``(B,)``.
        disputed: Share of pairs of responses that two arms order differently, mean over arms. Shape ``(B,)``.
    """

    gains: Tensor
    shares: Tensor
    weights: Tensor
    quality: Tensor
    unlike: Tensor
    disputed: Tensor

    def rows(self, rows: Tensor) -> Answers:
        """Those of some prompts."""
        return Answers(
            self.gains[:, rows], self.shares[:, rows], self.weights[rows], self.quality, self.unlike[rows],
            self.disputed[rows],
        )  # fmt: skip


def answers(scores: Tensor, right: Tensor, sampled: Sampled, rows: Tensor, counted: Tensor) -> Answers:
    """What a pool's scores say of some prompts.

    Args:
        scores: Of all prompts. Shape ``(K, B, n)``.
        right: Whether each response is. Shape ``(B, n)``.
        sampled: What was scored.
        rows: The prompts of one category.
        counted: Which responses are compared. Shape ``(B, n)``, bool.
    """
    about = scores - scores.mean(-1, keepdim=True)
    spread = about.square().mean((1, 2)).sqrt()[:, None]
    gains = torch.stack([gain_of_the_likelier(own[rows], sampled.logprobs[rows]) for own in scores]) / spread
    shares = torch.zeros_like(gains)
    weights = torch.zeros(len(rows), dtype=torch.float64)
    for place, row in enumerate(rows.tolist()):
        is_right, kept = right[row], counted[row]
        pairs = int((is_right & kept).sum() * (~is_right & kept).sum())
        if pairs:
            weights[place] = min(1.0, pairs / PAIRS_OF_AN_ANSWER)
            shares[:, place] = torch.stack(
                [share_ordered_rightly(own[row][kept], is_right[kept]) for own in scores]
            )  # fmt: skip
    hits = of_the_first(scores[:, rows], right[rows].double()).mean(-1)
    order = (scores[:, rows, :, None] - scores[:, rows, None, :]).sign()  # (K, B, n, n)
    pairs_of_arms = list(itertools.combinations(range(len(scores)), 2))
    disputed = sum((order[a] * order[b] < 0).double().mean((-1, -2)) for a, b in pairs_of_arms) / len(pairs_of_arms)
    assert isinstance(disputed, Tensor)
    return Answers(gains, shares, weights, hits / hits.max(), sampled.distinct[rows].sum(-1), disputed)


def worth_of(known: Answers, free: Tensor, asked: Tensor, worth: float) -> Tensor:
    """``Evidence``'s value of every arm. Shape ``(K,)``."""
    expected = (CHANCE + math.sqrt(math.pi) / 2 * known.gains[:, free].mean(-1)).clamp(0, 1)
    weights = known.weights[asked]
    total = weights.sum() + worth
    if total == 0:
        return torch.full_like(expected, CHANCE)
    return ((weights * known.shares[:, asked]).sum(-1) + worth * expected) / total


def prediction_powered(known: Answers, free: Tensor, asked: Tensor) -> Tensor:
    """The gain's mean, corrected by its mean residual on answered prompts. Shape ``(K,)``."""
    told = asked[known.weights[asked] > 0]
    expected = CHANCE + math.sqrt(math.pi) / 2 * known.gains
    residual = (known.shares[:, told] - expected[:, told]).mean(-1) if len(told) else 0.0
    return expected[:, free].mean(-1) + residual


def telling(known: Answers, order: Tensor) -> Tensor:
    """Prompts to which right and wrong responses were sampled, in the same order."""
    return order[known.weights[order] > 0]


def unlike(known: Answers, tried: Tensor) -> Tensor:
    """Prompts to which not all responses are alike, in the same order."""
    return tried[known.unlike[tried] > 1]


CHOICES: dict[str, Callable[[Answers, Tensor, int], Tensor]] = {
    "at random": lambda known, tried, count: tried[:count],
    "at random, of those with unlike responses": lambda known, tried, count: unlike(known, tried)[:count],
    "arms disagree most": lambda known, tried, count: tried[known.disputed[tried].argsort(descending=True)[:count]],
    "most unlike responses": lambda known, tried, count: tried[known.unlike[tried].argsort(descending=True)[:count]],
}
"""Which of the prompts that are tried are asked about."""


def draws(count: int, seed: int = 0) -> Iterator[Tensor]:
    """Prompts of a category in random order, again and again."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(DRAWS):
        yield torch.randperm(count, generator=generator)


def quality(known: Answers, name: Callable[[Tensor], Tensor]) -> float:
    """Mean quality of the arm of the largest value, equal ones sharing it.

    Args:
        known: Of one category.
        name: From an order of the prompts to the value of each arm.
    """
    found = []
    for order in draws(len(known.weights)):
        values = name(order)
        found.append(float(known.quality[values >= values.max() - 1e-12].mean()))
    return sum(found) / len(found)


def alarm(known: Answers, count: int) -> float:
    """How often answers to so many prompts say that likelihoods mislead."""
    arms = [str(arm) for arm in range(len(known.quality))]
    told = 0
    for order in draws(len(known.weights)):
        evidence = Evidence(WORTH)
        for row in order[:FREE].tolist():
            for arm, gain in zip(arms, known.gains[:, row].tolist(), strict=True):
                evidence.gain(arm, gain)
        for row in order[:count].tolist():
            pairs = round(PAIRS_OF_AN_ANSWER * float(known.weights[row]))
            shares = known.shares[:, row].tolist() if pairs else []
            evidence.answer(str(row), dict(zip(arms, shares, strict=False)), pairs)
        told += evidence.chance_of_misleading(arms) < MISLED_FROM
    return told / DRAWS


Pools = dict[str, dict[str, tuple[Answers, Answers]]]
"""By pool and category: with all responses compared, and with those that ``label`` shows."""


def measure(world: str, seed: int) -> Pools:
    """What is known in every pool of a world."""
    prompts, texts, sampled = samples(WORLDS[world], PROMPTS[world], seed)
    right = are_right(prompts, texts)
    every = torch.ones_like(right)
    shown = sampled.distinct & (sampled.distinct.int().cumsum(-1) <= SHOWN)
    found: Pools = {}
    for kind in POOL_NAMES[world]:
        scores = scores_of(WORLDS[world], kind, prompts, texts)
        for category in sorted({prompt.category for prompt in prompts}):
            rows = torch.tensor([row for row, prompt in enumerate(prompts) if prompt.category == category])
            both = (answers(scores, right, sampled, rows, counted) for counted in (every, shown))
            found.setdefault(kind, {})[category] = tuple(both)  # type: ignore[assignment]
    return found


def means(pools: Pools, counts: list[int], value: Callable[[Answers, Answers, int], float]) -> list[str]:
    """A table's cells: for each number of answers the mean over categories without adversaries, and over all pools.

    Args:
        pools: Of one world.
        counts: Numbers of answers.
        value: From a category, as all responses and as those that are shown tell of it, and such a number.
    """
    cells = []
    for count in counts:
        by_pool = {kind: sum(value(*both, count) for both in own.values()) / len(own) for kind, own in pools.items()}
        cells.append(f"{by_pool['base']:.3f} / {sum(by_pool.values()) / len(by_pool):.3f}")
    return cells


def by_worth(pools: Pools) -> list[str]:
    """A row for each number of answers that the evidence without answers counts for, and for the corrected mean."""
    rows = {}
    for worth in WORTHS:
        rows[_answers(worth) if worth else "nothing: answers alone"] = means(
            pools, COUNTS, lambda known, _, count, worth=worth: quality(  # type: ignore[misc]
                known, lambda order: worth_of(known, order[:FREE], order[:count], worth))
        )  # fmt: skip
    rows[f"{_answers(WORTH)}; prompts that tell nothing are not counted"] = means(
        pools, COUNTS, lambda known, _, count: quality(
            known, lambda order: worth_of(known, order[:FREE], telling(known, order)[:count], WORTH))
    )  # fmt: skip
    rows["corrected mean (prediction-powered)"] = means(
        pools, COUNTS, lambda known, _, count: quality(
            known, lambda order: prediction_powered(known, order[:FREE], order[:count]))
    )  # fmt: skip
    return _table(["evidence without answers counts for", *map(_answers, COUNTS)], rows)


def by_choice(pools: Pools) -> list[str]:
    """A row for each way to choose questions; the last as ``label`` asks them."""

    def named(known: Answers, choose: Callable[[Answers, Tensor, int], Tensor], count: int) -> float:
        return quality(
            known, lambda order: worth_of(known, order[:FREE], choose(known, order[: TRIED * count], count), WORTH)
        )

    rows = {
        name: means(pools, ASKED, lambda known, _, count, choose=choose: named(known, choose, count))  # type: ignore[misc]
        for name, choose in CHOICES.items()
    }
    like_label = "at random, of those with unlike responses"
    rows[f"{like_label}, {SHOWN} of them shown"] = means(
        pools, ASKED, lambda _, shown, count: named(shown, CHOICES[like_label], count)
    )
    return _table(["questions", *map(_answers, ASKED)], rows)


def by_category(pools: Pools) -> list[str]:
    """Whom likelihoods alone name, and how often answers say that they mislead; without adversaries."""
    rows = {}
    for category, (known, _) in pools["base"].items():
        named = quality(known, lambda order, known=known: worth_of(known, order[:FREE], order[:0], WORTH))  # type: ignore[misc]
        rows[category] = [f"{named:.3f}", *(f"{alarm(known, count):.0%}" for count in (4, 8))]
    return _table(["category", "arm named without answers", _answers(4), _answers(8)], rows)


def _answers(count: int) -> str:
    return f"{count} answer" + ("" if count == 1 else "s")


def _table(heads: list[str], rows: dict[str, list[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return [*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())]


def page(results: dict[str, Pools], seed: int) -> list[str]:
    """The section's lines."""
    lines = [
        "## What a few answers say before training",
        "",
        f"Of each category {FREE} prompts at random are scored by all arms, and some of them have an answer. Figures:"
        " how often the response that the named arm puts first is right, over the same for the best arm of the pool;"
        f" mean over categories and {DRAWS} draws, without adversaries / mean over pools. Start policies, seed {seed}.",
    ]
    for world, pools in results.items():
        lines += [
            "",
            f"### {TITLES[world]}, answers before training",
            "",
            *by_worth(pools),
            "",
            f"Which questions, of {TRIED} times as many that are tried (evidence without answers counts for {WORTH}"
            " answers):",
            "",
            *by_choice(pools),
            "",
            "How often it is said that likelihoods mislead, without adversaries:",
            "",
            *by_category(pools),
        ]
    return lines


if __name__ == "__main__":
    write("answers", __doc__, measure, page)
