"""Who scores: the arm that the bandit chose, or the next best where that one distinguishes no responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from laser_pl.batches import PairIndices


class Outcome(Enum):
    """What came of an arm's turn.

    Attributes:
        ASIDE: It failed too often before and was not asked.
        FAILED: It was asked and failed.
        ABSTAINED: It was asked and had no opinion on any response.
        TIED: Its labels made no pair, where others' could have: equal scores, or closer than ``min_margin``.
        JUDGED: Its labels are used.
    """

    ASIDE = 0
    FAILED = 1
    ABSTAINED = 2
    TIED = 3
    JUDGED = 4

    @property
    def told_nothing_apart(self) -> bool:
        """Whether it was asked and answered, and no answer preferred a response to another."""
        return self in (Outcome.ABSTAINED, Outcome.TIED)


@dataclass(frozen=True)
class Turn:
    """One arm's turn in one decision.

    Attributes:
        arm: Its index.
        outcome: What came of it.
        rivals: Which arms could have had this turn instead, itself included. Shape ``(K,)``, bool.
    """

    arm: int
    outcome: Outcome
    rivals: Tensor


@dataclass(frozen=True)
class Judgement:
    """How a batch was judged.

    Attributes:
        arms: Who scored, for each decision. Where nobody's labels made a pair, the first that gave labels. ``(M,)``.
        scores: Their labels; NaN is none. Shape ``(B, n)``, float64.
        pairs: Made from them.
        turns: Of each decision, in order.
    """

    arms: Tensor
    scores: Tensor
    pairs: PairIndices
    turns: Sequence[Sequence[Turn]]

    def with_outcome(self, *outcomes: Outcome) -> list[list[int]]:
        """The arms of each decision whose turn ended so, in order."""
        return [[turn.arm for turn in turns if turn.outcome in outcomes] for turns in self.turns]

    @property
    def judges(self) -> list[int | None]:
        """Whose labels are used, of each decision; None where nobody's are."""
        return [turns[-1].arm if turns[-1].outcome is Outcome.JUDGED else None for turns in self.turns]

    @property
    def lost(self) -> Tensor:
        """Decisions without a judge for a fault of an arm's. Shape ``(M,)``, bool."""
        faults = [any(turn.outcome in (Outcome.ASIDE, Outcome.FAILED) for turn in turns) for turns in self.turns]
        return torch.tensor([judge is None and fault for judge, fault in zip(self.judges, faults, strict=True)])

    @property
    def asked(self) -> bool:
        """Whether any arm was."""
        return any(turn.outcome is not Outcome.ASIDE for turns in self.turns for turn in turns)


@dataclass(frozen=True)
class Labels:
    """What an arm said of some prompts.

    Attributes:
        scores: NaN is none. Shape ``(rows, n)``, float64.
        failed: Whether there is none for a fault.
    """

    scores: Tensor
    failed: bool


def judge(
    first: Tensor,
    next_best: Callable[[list[int], Tensor], Tensor],
    rows: Sequence[Sequence[int]],
    may_be_asked: Tensor,
    ask: Callable[[int, list[int]], Labels],
    pair: Callable[[Tensor], PairIndices],
    can_pair: Tensor,
    n: int,
) -> Judgement:
    """Ask the arms that were chosen, and where one makes no pair, the next best; each at most once a decision.

    Without that an arm whose scores tie would cost its step, and go on costing steps for as long as the bandit prefers
    it. Where no scores could make a pair (all responses alike, or forbidden) nobody is to blame and nobody else asked.

    Args:
        first: The arm that was chosen for each of the ``M`` decisions. Shape ``(M,)``, int64.
        next_best: The arms to ask instead in some decisions, given which may be asked there, ``(decisions, K)``; -1
            where there is none, ``(decisions,)``.
        rows: Of the batch, for each decision; each row in one of them.
        may_be_asked: Which arms are not aside. Shape ``(K,)``, bool.
        ask: An arm about some rows.
        pair: Makes pairs of scores ``(B, n)``.
        can_pair: For which prompts some scores would make a pair. Shape ``(B,)``, bool.
        n: Responses to each prompt.
    """
    scores = torch.full((len(can_pair), n), torch.nan, dtype=torch.float64)
    open_ = may_be_asked.repeat(len(rows), 1)  # (M, K)
    arms = first.clone()  # (M,)
    turns: list[list[Turn]] = [[] for _ in rows]
    tied: dict[int, tuple[int, Tensor]] = {}  # the first arm of a decision that gave labels, and those
    pairs = pair(scores)  # none

    def end_turn(m: int, outcome: Outcome) -> None:
        turns[m].append(Turn(int(arms[m]), outcome, open_[m].clone()))
        open_[m, arms[m]] = False

    waiting = list(range(len(rows)))
    for m in waiting:
        if not open_[m, arms[m]]:
            end_turn(m, Outcome.ASIDE)
    while waiting:
        shut = [m for m in waiting if not open_[m, arms[m]]]
        if shut:
            instead = next_best(shut, open_[shut])
            arms[shut] = torch.where(instead < 0, arms[shut], instead)
            waiting = [m for m in waiting if open_[m, arms[m]]]
        failed = {}
        for arm in sorted({int(arms[m]) for m in waiting}):
            own = [row for m in waiting if arms[m] == arm for row in rows[m]]
            labels = ask(arm, own)
            scores[own], failed[arm] = labels.scores, labels.failed
        pairs = pair(scores) if waiting else pairs
        paired = torch.zeros_like(can_pair)
        paired[pairs.prompt.cpu()] = True
        for m in waiting:
            own = list(rows[m])
            labelled = bool(scores[own].isfinite().any())
            if paired[own].any() or (labelled and not can_pair[own].any()):
                end_turn(m, Outcome.JUDGED)
            elif labelled:
                tied.setdefault(m, (int(arms[m]), scores[own].clone()))
                end_turn(m, Outcome.TIED)
            else:
                end_turn(m, Outcome.FAILED if failed[int(arms[m])] else Outcome.ABSTAINED)
        waiting = [m for m in waiting if turns[m][-1].outcome is not Outcome.JUDGED]
    for m, (arm, labels_) in tied.items():
        if turns[m][-1].outcome is not Outcome.JUDGED:
            arms[m], scores[list(rows[m])] = arm, labels_
    return Judgement(arms, scores, pairs, turns)


def none_paired(scores: Tensor) -> PairIndices:
    """No pairs, for whom an opinion is all that is wanted."""
    none = torch.empty(0, dtype=torch.long)
    return PairIndices(none, none, none)


def first_open(order: Tensor, available: Tensor) -> Tensor:
    """The first arm of each order that may be asked; -1 where there is none. Shape ``(M,)``, int64.

    Args:
        order: Arms, best first, perhaps not all of them. Shape ``(M, 1 to K)``, int64.
        available: Shape ``(M, K)``, bool.

    >>> first_open(torch.tensor([[2, 0, 1], [1, 2, 0]]), torch.tensor([[True, True, False], [False] * 3])).tolist()
    [0, -1]
    """
    open_ = available.gather(1, order)  # in the order of preference
    return torch.where(open_.any(-1), order.gather(1, open_.long().argmax(-1, keepdim=True)).squeeze(1), -1)
