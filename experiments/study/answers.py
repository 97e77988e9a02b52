"""Which reward model would a few answers name, before anything is trained? Samples of the start policies, no fit.

Run:  python experiments/study/answers.py
Cost: about 3 min on one CPU core.

As in ``signals.py``, but some of the prompts of a category have an answer. What counts is how often the response that
the named arm puts first is right, relative to the best arm of the pool. It compares what the evidence without answers
may count for, with answers alone and with the prediction-powered mean (the gain's mean over all prompts, corrected by
its residual on the answered ones); which questions are worth asking; and how often it is said that likelihoods mislead.
It writes its section of ``RESULTS.md``, or where --results says.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from candidates import Sampled, of_the_first
from signals import POOL_NAMES, PROMPTS, TITLES, samples, scores_of
from torch import Tensor
from worlds import ROOT, WORLDS

from laser_pl.feedback.evidence import CHANCE, MISLED_FROM, PAIRS_OF_AN_ANSWER, Evidence
from laser_pl.feedback.signals.cooling import gain_of_the_likelier
from laser_pl.feedback.signals.trusted import share_ordered_rightly
from laser_pl.report.summary import checked_out

COUNTS = [0, 1, 2, 4, 8, 16]
FREE = 64
"""Prompts of the category on which all arms are asked without answers."""
DRAWS = 200
WORTHS = [0, 1, 2, 4, 8]
WORTH = 4
"""What the signal takes."""
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


CHOICES: dict[str, Callable[[Answers, Tensor, int], Tensor]] = {
    "at random": lambda known, tried, count: tried[:count],
    "at random, of those with unlike responses": lambda known, tried, count: tried[known.unlike[tried] > 1][:count],
    "arms disagree most": lambda known, tried, count: tried[known.disputed[tried].argsort(descending=True)[:count]],
    "most unlike responses": lambda known, tried, count: tried[known.unlike[tried].argsort(descending=True)[:count]],
}
"""Which of some prompts are asked about: four times as many are tried as are wanted."""


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
    right = torch.tensor([[t == p.answer for t in row] for p, row in zip(prompts, texts, strict=True)])
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


def _answers(count: int) -> str:
    return f"{count} answer" + ("" if count == 1 else "s")


def _means(pools: Pools, value: Callable[[Answers, Answers], float]) -> str:
    """Of the categories without adversaries, and of all pools."""
    by_pool = [sum(value(*both) for both in own.values()) / len(own) for own in pools.values()]
    return f"{by_pool[list(pools).index('base')]:.3f} / {sum(by_pool) / len(by_pool):.3f}"


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
        lines += ["", f"### {TITLES[world]}, answers before training", ""]
        lines += [f"| evidence without answers counts for | {' | '.join(map(_answers, COUNTS))} |"]
        lines += ["|---|" + "---|" * len(COUNTS)]
        forms: dict[str, Callable[[Answers, Tensor, Tensor], Tensor]] = {
            _answers(worth) if worth else "nothing: answers alone": lambda known, free, asked, worth=worth: worth_of(
                known, free, asked, worth
            )
            for worth in WORTHS
        }
        forms["corrected mean (prediction-powered)"] = prediction_powered
        for name, form in forms.items():
            cells = [
                _means(pools, lambda known, _, n=n, form=form: quality(  # type: ignore[misc]
                    known, lambda order: form(known, order[:FREE], order[:n])))
                for n in COUNTS
            ]  # fmt: skip
            lines.append(f"| {name} | {' | '.join(cells)} |")
        asked = [2, 4, 8]
        lines += ["", f"Which questions, of {WORTH} times as many that are tried (evidence without answers counts for"
                  f" {WORTH} answers):", ""]  # fmt: skip
        lines += [f"| questions | {' | '.join(f'{n} answers' for n in asked)} |", "|---|" + "---|" * len(asked)]
        for name, choose in CHOICES.items():
            cells = [
                _means(pools, lambda known, _, n=n, choose=choose: quality(  # type: ignore[misc]
                    known, lambda order: worth_of(known, order[:FREE], choose(known, order[: 4 * n], n), WORTH)))
                for n in asked
            ]  # fmt: skip
            lines.append(f"| {name} | {' | '.join(cells)} |")
        cells = [
            _means(pools, lambda _, shown, n=n: quality(  # type: ignore[misc]
                shown, lambda order: worth_of(shown, order[:FREE], order[: 4 * n][shown.unlike[order[: 4 * n]] > 1][:n],
                                              WORTH)))
            for n in asked
        ]  # fmt: skip
        lines.append(f"| at random, of those with unlike responses, {SHOWN} of them shown | {' | '.join(cells)} |")
        lines += ["", "How often it is said that likelihoods mislead, without adversaries:", ""]
        lines += ["| category | arm named without answers | 4 answers | 8 answers |", "|---|---|---|---|"]
        for category, (known, _) in pools["base"].items():
            named = quality(known, lambda order, known=known: worth_of(known, order[:FREE], order[:0], WORTH))  # type: ignore[misc]
            lines.append(f"| {category} | {named:.3f} | {alarm(known, 4):.0%} | {alarm(known, 8):.0%} |")
    return lines


if __name__ == "__main__":
    from run import HERE, stamp, write_part

    os.chdir(ROOT)  # the configurations name their files from here

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    given = options.parse_args()
    text = [
        *page({name: measure(name, given.seed) for name in WORLDS}, given.seed),
        "",
        stamp(f"python experiments/study/answers.py --seed {given.seed}", [checked_out(ROOT)]),
    ]
    write_part(given.results, "answers", text)
    print("\n".join(text))
