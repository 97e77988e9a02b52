"""A few answers, on top of what the policy's likelihoods say of the reward models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, Prompt, PromptLosses, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.evidence import CHANCE, MISLED_FROM, Evidence
from laser_pl.feedback.observations import Observations, of_all_arms
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals.cooling import Cooling
from laser_pl.feedback.signals.trusted import share_ordered_rightly
from laser_pl.metrics.grader import Grader, divided


class FewAnswers(Cooling):
    """What each reward model is worth by ``Cooling`` with ranks, corrected by a handful of answers.

    Where the policy errs at random, its likelihoods say who is right, and no answer is needed. Where it is wrong by
    conviction they mislead, and nothing but answers can tell. So on a share of the prompts all reward models are asked,
    as ``Cooling`` has it; and on the first prompts of each category that have an answer, as many as ``answers``, it is
    counted how often each puts a right response above a wrong one. ``Evidence`` says what both come to. All arms are
    observed on each prompt they were asked about, with what they are worth on prompts of its category.

    The answers are those of the data, or the responses that people have compared, which ``selection.labels`` names.
    Then none of the data's is looked at.

    Where the answers contradict the likelihoods more than chance allows, ``findings`` says so.

    Args:
        answers: Prompts of each category whose answers are used, >= 0. Prompts without categories are one category.
        worth: How many answers the evidence without answers counts for, >= 0.
        share: Share of the prompts on which all are asked, in (0, 1]. Chosen by a hash of the prompt.
        matcher: Decides whether a response is right; null: ``model.matcher``.
        seed: Root of the choice; null follows ``seed_everything``.
    """

    takes_labels = True

    def __init__(
        self,
        answers: int = 8,
        worth: float = 4.0,
        share: float = 0.125,
        matcher: Grader | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(share, "sum", seed, "ranks")
        if answers < 0:
            raise ConfigurationError(f"answers must be >= 0, got {answers}. Set selection.signal.answers.")
        if not 0 <= worth < math.inf:
            raise ConfigurationError(f"worth must be >= 0 and finite, got {worth}. Set selection.signal.worth.")
        self.answers = answers
        self.worth = worth
        self.matcher = matcher
        self.known: dict[str, Evidence] = {}
        self.told = False  # by people, before training
        self._arms: list[str] = []

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names."""
        super().start(arms)
        self._arms = list(arms)

    def check(self, categories: Sequence[str]) -> None:
        """See that its own matcher, if it has one, can grade them all."""
        if self.matcher is not None:
            self.matcher.check(categories)

    def learn_labels(self, prompts: Sequence[Prompt], accuracy: Tensor, pairs: Tensor) -> None:
        """Take in what the arms made of responses that people have compared."""
        self.told = True
        for prompt, shares, count in zip(prompts, accuracy.tolist(), pairs.tolist(), strict=True):
            self._about(prompt).answer(prompt.id, dict(zip(self._arms, shares, strict=True)), count)

    def polled(self, prompts: Sequence[Prompt]) -> list[int]:
        """Those of the share, and those whose answers are used."""
        return sorted({*super().polled(prompts), *self._answered(prompts)})

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """What every arm is worth on each prompt that they were asked about, by all that is known by now."""
        prompts = batch.prompts.prompts
        answered, rows = self._answered(prompts), self.polled(prompts)
        if not rows:
            return of_all_arms([], torch.zeros(0, 0), CHANCE)
        scores = ask.scores(rows).double().cpu()  # (K, R, n)
        gains = self.gains(batch, rows, scores)  # (K, R)
        for place, row in enumerate(rows):
            known = self._about(prompts[row])
            for arm, gain in zip(self._arms, gains[:, place].tolist(), strict=True):
                known.gain(arm, gain)
            if row in answered:
                right = divided(self.matcher or ask.grader, batch.responses.texts[row], prompts[row])
                shares, pairs = {}, 0
                if right is not None:
                    is_right = torch.tensor(right)
                    pairs = int(is_right.sum() * (~is_right).sum())
                    found = [float(share_ordered_rightly(own[place], is_right)) for own in scores]
                    shares = dict(zip(self._arms, found, strict=True))
                known.answer(prompts[row].id, shares, pairs)
        values = [[self._about(prompts[row]).value(arm) for arm in self._arms] for row in rows]
        return of_all_arms(rows, torch.tensor(values, dtype=torch.float64), CHANCE)

    def chance(self, batch: RolloutBatch, losses: PromptLosses) -> Tensor:
        """A half."""
        return torch.full((len(batch),), CHANCE, dtype=torch.float64)

    def findings(self) -> list[dict[str, Any]]:
        """Of each category, how many answers tell, what each arm is worth without and by them, and if one misleads.

        ``misled`` is the probability of such answers if likelihoods did not mislead, where that is below .05; else
        null.
        """
        found = []
        for category, known in sorted(self.known.items()):
            p = known.chance_of_misleading(self._arms)
            by_answers = {arm: known.by_answers(arm) for arm in self._arms}
            found.append(
                {
                    "category": category,
                    "answers": sum(one.weight > 0 for one in known.answers.values()),
                    "without": {arm: known.without_answers(arm) for arm in self._arms},
                    "by_answers": {arm: share for arm, (share, weight) in by_answers.items() if weight},
                    "worth": {arm: known.value(arm) for arm in self._arms},
                    "misled": p if p < MISLED_FROM else None,
                }
            )
        return found

    def state_dict(self) -> dict[str, Any]:
        """Each arm's spread, and what is known of each category."""
        known = {category: evidence.state_dict() for category, evidence in self.known.items()}
        return {"spread": super().state_dict(), "known": known, "told": self.told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        super().load_state_dict(state["spread"])
        self.told = state["told"]
        self.known = {}
        for category, known in state["known"].items():
            self.known[category] = Evidence(self.worth)
            self.known[category].load_state_dict(known)

    def _about(self, prompt: Prompt) -> Evidence:
        return self.known.setdefault(prompt.category, Evidence(self.worth))

    def _answered(self, prompts: Sequence[Prompt]) -> list[int]:
        """Prompts whose answers are used: those that were before, and new ones as long as any may be."""
        if self.told:
            return []
        used = {prompt for known in self.known.values() for prompt in known.answers}
        count = Counter({category: len(known.answers) for category, known in self.known.items()})
        found = []
        for row, prompt in enumerate(prompts):
            if prompt.answer is not None and prompt.id not in used and count[prompt.category] < self.answers:
                used.add(prompt.id)
                count[prompt.category] += 1
            if prompt.id in used:
                found.append(row)
        return found
