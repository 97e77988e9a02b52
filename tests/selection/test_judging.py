"""Who is asked where an arm distinguishes nothing, and what every bandit learns of it, without a language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from laser_pl.bandits import (
    UCB1,
    Bandit,
    Classifier,
    DiscountedLinUCB,
    EpsilonGreedy,
    Exp3,
    Fixed,
    LinUCB,
    Oracle,
    RoundRobin,
    SlidingWindowLinUCB,
    Thompson,
    Uniform,
)
from laser_pl.batches import PairIndices
from laser_pl.feedback.normalizers import ContextBaseline, PooledQuantiles, RewardNormalizer
from laser_pl.feedback.observations import Observations
from laser_pl.selection.fallback import Judgement, Labels, Outcome, judge
from laser_pl.selection.told_nothing import observed

NAN = float("nan")
ARMS = ["constant", "good", "poor"]
BANDITS: dict[str, Callable[[], Bandit]] = {
    "LinUCB": LinUCB,
    "LinUCB of the paper": lambda: LinUCB(0.1),
    "Thompson": Thompson,
    "Thompson with a prior": lambda: Thompson(prior={"constant": 1.0}),
    "DiscountedLinUCB": DiscountedLinUCB,
    "SlidingWindowLinUCB": lambda: SlidingWindowLinUCB(window=30),
    "EpsilonGreedy": EpsilonGreedy,
    "UCB1": UCB1,
    "Exp3": lambda: Exp3(low=-0.5, high=0.5),
    "Classifier": Classifier,
    "Uniform": Uniform,
    "RoundRobin": RoundRobin,
    "RoundRobin per iteration": lambda: RoundRobin("iteration"),
    "Oracle": lambda: Oracle({"sums": "constant"}),
}
LEARN_OF_CHOICES = [name for name in BANDITS if name not in ("Classifier", *list(BANDITS)[-4:])]
"""Those to which one arm's reward says something; ``Classifier`` compares arms that were seen together."""


def first_two(scores: Tensor) -> PairIndices:
    """The better of each prompt's first two responses against the other."""
    first, second = scores[:, 0], scores[:, 1]
    rows = torch.nonzero((first - second).abs().nan_to_num(0.0) > 0).squeeze(-1)
    chosen = (first < second)[rows].long()
    return PairIndices(rows, chosen, 1 - chosen)


def asking(
    labels: dict[int, list[list[float]]], asked: list[tuple[int, list[int]]], failing: Sequence[int] = ()
) -> object:
    """Arms by their labels of every row, noting who was asked about what."""

    def ask(arm: int, rows: list[int]) -> Labels:
        asked.append((arm, rows))
        return Labels(torch.tensor(labels[arm], dtype=torch.float64)[rows], arm in failing)

    return ask


class Wants(Fixed):
    """Chooses as it is told, then the first that is left."""

    def __init__(self, first: list[int]) -> None:
        self.first = first

    def select(self, contexts: Tensor) -> Tensor:
        return torch.tensor(self.first)

    def next_best(self, contexts: Tensor, available: Tensor) -> Tensor:
        return torch.where(available.any(-1), available.long().argmax(-1), -1)


def chosen_by(bandit: Bandit, contexts: Tensor) -> tuple[Tensor, Callable[[list[int], Tensor], Tensor]]:
    """Whom a bandit chooses, and whom instead."""
    return bandit.select(contexts), lambda waiting, open_: bandit.next_best(contexts[waiting], open_)


def judged(
    first: list[int],
    labels: dict[int, list[list[float]]],
    rows: list[list[int]],
    may: Sequence[bool] = (True, True, True),
    can_pair: Sequence[bool] | None = None,
    failing: Sequence[int] = (),
) -> tuple[Judgement, list[tuple[int, list[int]]]]:
    bandit = Wants(first)
    bandit.start(ARMS, 1)
    asked: list[tuple[int, list[int]]] = []
    count = sum(map(len, rows))
    found = judge(
        *chosen_by(bandit, torch.zeros(len(rows), 1)), rows, torch.tensor(may),
        asking(labels, asked, failing), first_two,  # type: ignore[arg-type]
        torch.tensor([True] * count if can_pair is None else can_pair), 2,
    )  # fmt: skip
    return found, asked


TIES, TELLS, MUTE = [1.0, 1.0], [0.0, 2.0], [NAN, NAN]


def test_an_arm_whose_scores_tie_gives_way_to_the_next_best_in_the_same_step() -> None:
    """Two decisions of two prompts; in the second the arm tells one prompt's responses apart, which is enough."""
    labels = {0: [TIES, TIES, TIES, TELLS], 1: [TIES, TIES, TIES, TIES], 2: [TELLS, TIES, TELLS, TELLS]}
    found, asked = judged([0, 0], labels, [[0, 1], [2, 3]])
    assert asked == [(0, [0, 1, 2, 3]), (1, [0, 1]), (2, [0, 1])]  # each arm once, and only where it is needed
    assert found.arms.tolist() == [2, 0]
    assert found.pairs.prompt.tolist() == [0, 3]
    assert found.with_outcome(Outcome.TIED) == [[0, 1], []]
    assert [turn.rivals.tolist() for turn in found.turns[0]] == [[True] * 3, [False, True, True], [False, False, True]]


def test_where_nobody_tells_anything_apart_the_first_that_gave_labels_stays() -> None:
    labels = {0: [MUTE], 1: [TIES], 2: [[2.0, 2.0]]}
    found, asked = judged([0], labels, [[0]])
    assert [arm for arm, _ in asked] == [0, 1, 2]
    assert found.arms.tolist() == [1]
    assert found.scores.tolist() == [TIES]
    assert len(found.pairs) == 0
    assert found.with_outcome(Outcome.ABSTAINED, Outcome.TIED) == [[0, 1, 2]]
    assert found.with_outcome(Outcome.JUDGED) == [[]]


def test_responses_that_no_score_could_tell_apart_are_nobodys_fault() -> None:
    """All alike, or all forbidden: one arm is asked, and nothing is held against it."""
    found, asked = judged([1], {1: [TIES]}, [[0]], can_pair=[False])
    assert asked == [(1, [0])]
    assert [turn.outcome for turn in found.turns[0]] == [Outcome.JUDGED]


def test_a_fault_is_told_from_an_abstention_and_from_who_is_aside() -> None:
    labels = {0: [MUTE], 1: [MUTE], 2: [TELLS]}
    found, asked = judged([1], labels, [[0]], may=(True, True, True), failing=[1])
    assert [turn.outcome for turn in found.turns[0]] == [Outcome.FAILED, Outcome.ABSTAINED, Outcome.JUDGED]
    found, asked = judged([1], labels, [[0]], may=(True, False, True))
    assert [arm for arm, _ in asked] == [0, 2]
    assert [turn.outcome for turn in found.turns[0]] == [Outcome.ASIDE, Outcome.ABSTAINED, Outcome.JUDGED]
    assert found.turns[0][0].rivals.tolist() == [True, False, True]


def test_who_told_nothing_apart_is_observed_at_chance_unless_the_signal_saw_it() -> None:
    labels = {0: [TIES, TELLS], 1: [MUTE, MUTE], 2: [TELLS, TELLS]}
    found, _ = judged([0, 2], labels, [[0], [1]])
    seen = Observations(torch.tensor([0, 1]), torch.tensor([2, 2]), torch.tensor([0.9, 0.7]), torch.tensor([0.2, 0.3]))
    chance = torch.tensor([0.2, 0.3])
    every, rivals = observed(seen, found, chance, 3)
    assert every.prompt.tolist() == [0, 1, 0, 0]
    assert every.arm.tolist() == [2, 2, 0, 1]
    assert every.value.tolist() == pytest.approx([0.9, 0.7, 0.2, 0.2])
    assert every.chance.tolist() == pytest.approx([0.2, 0.3, 0.2, 0.2])
    assert rivals.tolist() == [[False, False, True], [True] * 3, [True] * 3, [False, True, True]]
    polled = Observations(*(torch.tensor(v) for v in ([0, 0], [0, 2], [0.5, 0.9], [0.5, 0.5])), polled=True)
    every, rivals = observed(polled, found, chance, 3)
    assert every.arm.tolist() == [0, 2, 1]
    assert rivals.tolist() == [[True, False, False], [False, False, True], [False, False, False]]
    silent, _ = observed(seen, found, torch.tensor([NAN, NAN]), 3)
    assert silent.arm.tolist() == [2, 2]


def world(
    bandit: Bandit, normalizer: RewardNormalizer, steps: int, polls: bool = False, mute: bool = False
) -> tuple[list[Judgement], list[int]]:
    """Steps of one prompt, whose first response is better. The good arm is worth 1 over chance, the poor one 0.5."""
    generator = torch.Generator().manual_seed(0)
    bandit.start(ARMS, 4, seed=0)
    normalizer.start(ARMS)
    found, asked = [], []
    for step in range(steps):
        context = torch.nn.functional.normalize(torch.randn(1, 3, generator=generator, dtype=torch.float64), dim=-1)
        context = torch.cat([context, torch.full((1, 1), 0.3, dtype=torch.float64)], dim=-1)  # ContextPreparation's
        bandit.tell(step // 20, ["sums"])
        calls: list[tuple[int, list[int]]] = []
        labels = {0: [MUTE if mute else TIES], 1: [[2.0, 0.0]], 2: [[0.0, 1.0]]}
        judgement = judge(*chosen_by(bandit, context), [[0]], torch.ones(3, dtype=torch.bool), asking(labels, calls),  # type: ignore[arg-type]
                          first_two, torch.tensor([True]), 2)  # fmt: skip
        asked += [arm for arm, _ in calls]
        worth = torch.tensor([-1.0, 0.0, -0.5], dtype=torch.float64) + 0.1 * torch.randn(3, generator=generator)
        chance = torch.tensor([-1.0], dtype=torch.float64)
        about = torch.tensor([0, 1, 2] if polls else judgement.arms[:1].tolist())
        if polls and mute:
            about = about[1:]
        seen = Observations(torch.zeros_like(about), about, worth[about], chance.expand(len(about)), polls)
        seen, rivals = observed(seen, judgement, chance, 3)
        rewards = normalizer.rewards(context.expand(len(seen.arm), -1), seen.arm, seen.value, seen.chance)
        bandit.learn(context.expand(len(seen.arm), -1), seen.arm, rewards, rivals)
        found.append(judgement)
    return found, asked


@pytest.mark.parametrize("mute", [False, True], ids=["ties", "abstains"])
@pytest.mark.parametrize("normalizer", [ContextBaseline, PooledQuantiles])
@pytest.mark.parametrize("make", BANDITS.values(), ids=BANDITS)
def test_no_bandit_loses_a_step_to_an_arm_that_tells_nothing_apart(
    make: Callable[[], Bandit], normalizer: Callable[[], RewardNormalizer], mute: bool
) -> None:
    found, asked = world(make(), normalizer(), 40, mute=mute)
    assert all(len(judgement.pairs) == 1 for judgement in found)
    assert len(asked) <= 80  # nobody else was asked about anything that was distinguished


@pytest.mark.parametrize("mute", [False, True], ids=["ties", "abstains"])
@pytest.mark.parametrize("name", LEARN_OF_CHOICES)
def test_every_bandit_learns_to_leave_it(name: str, mute: bool) -> None:
    """It is asked less than a third of the time in the second half, and less than the good arm judges."""
    bandit = BANDITS[name]()
    found, _ = world(bandit, ContextBaseline(), 300, mute=mute)
    late = found[150:]
    tied = sum(judgement.turns[0][0].arm == 0 for judgement in late) / len(late)
    good = sum(int(judgement.arms) == 1 for judgement in late) / len(late)
    assert tied < 1 / 3
    assert tied < good


@pytest.mark.parametrize("mute", [False, True], ids=["ties", "abstains"])
@pytest.mark.parametrize("name", ["LinUCB", "Exp3", "Classifier"])
def test_a_poll_that_one_arm_does_not_answer_still_names_the_best(name: str, mute: bool) -> None:
    """Whether the third ties or gives no label, the good one is chosen most in the last hundred steps."""
    bandit = BANDITS[name]()
    found, _ = world(bandit, ContextBaseline(), 300, polls=True, mute=mute)
    good = sum(int(judgement.arms) == 1 for judgement in found[200:]) / 100
    poor = sum(int(judgement.arms) == 2 for judgement in found[200:]) / 100
    assert good > poor + 0.2
