"""Preference pairs: what may never happen, and the same pairs found by loops over all combinations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.batches import PairIndices, RolloutBatch
from laser_pl.data.pairs import BestWorst, Pairing, RandomPairs, TopBottom
from laser_pl.errors import ConfigurationError

KINDS = (RandomPairs, BestWorst, TopBottom)
SCORES = st.one_of(st.sampled_from([math.nan, 0.0, 0.25, 1.0]), st.floats(-10, 10))
RESPONSE = st.sampled_from([[1], [3, 1], [4, 1], [4, 4], [3, 4, 1], [5, 1], [6, 1], [7, 7, 7]])


@dataclass
class Case:
    """Scores, responses and whether they ended: ``B`` lists of ``n``."""

    scores: list[list[float]]
    tokens: list[list[list[int]]]

    @property
    def finished(self) -> list[list[bool]]:
        return [[response[-1] == 1 for response in row] for row in self.tokens]

    def rows(self, rows: list[int]) -> Case:
        return Case([self.scores[r] for r in rows], [self.tokens[r] for r in rows])


@st.composite
def cases(draw: Any, distinct: bool = False) -> Case:
    n = draw(st.integers(2, 7))
    size = draw(st.integers(1, 4))
    rows = st.lists(RESPONSE, min_size=n, max_size=n, unique_by=tuple if distinct else None)
    tokens = draw(st.lists(rows, min_size=size, max_size=size))
    scores = draw(st.lists(st.lists(SCORES, min_size=n, max_size=n), min_size=size, max_size=size))
    return Case(scores, tokens)


@st.composite
def pairings(draw: Any, kinds: tuple[type[Pairing], ...] = KINDS, **fixed: Any) -> Pairing:
    values = {
        "per_prompt": draw(st.integers(1, 8)),
        "min_margin": draw(st.sampled_from([0.0, 0.25, 0.5, 3.0])),
        "truncated": draw(st.sampled_from(["keep", "mask", "drop"])),
    }
    return draw(st.sampled_from(kinds))(**(values | fixed))


Make = Callable[..., RolloutBatch]


def found(make: Make, pairing: Pairing, case: Case, seed: int = 0, **kwargs: Any) -> list[tuple[int, int, int]]:
    """``(prompt, chosen, rejected)`` of each pair."""
    pairs = pairing.pair(make(case.tokens, case.finished, **kwargs), torch.tensor(case.scores), seed)
    return list(zip(pairs.prompt.tolist(), pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True))


def admissible(pairing: Pairing, case: Case, row: int) -> set[tuple[int, int]]:
    """Every pair of one prompt that the rules allow, by trying all combinations of scores as float32 has them."""
    scores: list[float] = torch.tensor(case.scores[row]).tolist()
    tokens, finished = case.tokens[row], case.finished[row]
    allowed = set()
    for chosen in range(len(scores)):
        for rejected in range(len(scores)):
            repeats = any(tokens[i] in tokens[:i] for i in (chosen, rejected))
            cut = not finished[chosen], not finished[rejected]
            forbidden = {"keep": False, "mask": cut[0], "drop": any(cut)}[pairing.truncated]
            gap = scores[chosen] - scores[rejected]  # NaN if either is
            if gap > 0 and gap >= pairing.min_margin and not repeats and not forbidden:
                allowed.add((chosen, rejected))
    return allowed


@given(pairings(), cases(), st.integers(0, 99))
def test_pairs_keep_every_rule(rollouts: Make, pairing: Pairing, case: Case, seed: int) -> None:
    pairs = found(rollouts, pairing, case, seed)
    assert len(set(pairs)) == len(pairs)
    for row in range(len(case.scores)):
        own = {(chosen, rejected) for prompt, chosen, rejected in pairs if prompt == row}
        assert len(own) <= pairing.per_prompt
        assert own <= admissible(pairing, case, row)
    assert [prompt for prompt, _, _ in pairs] == sorted(prompt for prompt, _, _ in pairs)


@given(pairings((RandomPairs,)), cases(), st.integers(0, 99))
def test_random_pairs_use_all_there_are_up_to_the_limit(
    rollouts: Make, pairing: Pairing, case: Case, seed: int
) -> None:
    count = Counter(prompt for prompt, _, _ in found(rollouts, pairing, case, seed))
    for row in range(len(case.scores)):
        assert count[row] == min(pairing.per_prompt, len(admissible(pairing, case, row)))


def by_hand(case: Case, row: int, drop: bool) -> list[float]:
    """Scores of the usable distinct responses, best first."""
    scores: list[float] = torch.tensor(case.scores[row]).tolist()
    usable = [
        score
        for i, score in enumerate(scores)
        if score == score and case.tokens[row][i] not in case.tokens[row][:i] and (case.finished[row][i] or not drop)
    ]
    return sorted(usable, reverse=True)


def best_against_each(ranked: list[float]) -> list[tuple[float, float]]:
    return [(ranked[0], worse) for worse in reversed(ranked[1:])]


def from_the_outside_in(ranked: list[float]) -> list[tuple[float, float]]:
    return [(ranked[i], ranked[-1 - i]) for i in range(len(ranked) // 2)]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [(BestWorst, best_against_each), (TopBottom, from_the_outside_in)],
    ids=["best against each", "from the outside in"],
)
@given(st.sampled_from(["keep", "drop"]), st.sampled_from([0.0, 0.5]), st.integers(1, 8), cases())
def test_ranked_pairs_follow_their_rule(
    rollouts: Make, kind: type[Pairing], rule: Any, truncated: Any, min_margin: float, per_prompt: int, case: Case
) -> None:
    pairs = found(rollouts, kind(per_prompt, min_margin, truncated), case)
    for row in range(len(case.scores)):
        expected = [
            (chosen, rejected)
            for chosen, rejected in rule(by_hand(case, row, drop=truncated == "drop"))
            if chosen > rejected and chosen - rejected >= min_margin
        ]
        scores = torch.tensor(case.scores[row]).tolist()
        assert [(scores[c], scores[r]) for prompt, c, r in pairs if prompt == row] == expected[:per_prompt]


@given(pairings(truncated="keep", per_prompt=50), cases(distinct=True), st.data())
def test_permuting_responses_permutes_pairs(rollouts: Make, pairing: Pairing, case: Case, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(case.scores[0]))))
    permuted = Case([[row[i] for i in order] for row in case.scores], [[row[i] for i in order] for row in case.tokens])

    def by_score(of: Case) -> Counter[tuple[int, float, float]]:
        scores = torch.tensor(of.scores).tolist()
        return Counter((p, scores[p][c], scores[p][r]) for p, c, r in found(rollouts, pairing, of))

    assert by_score(permuted) == by_score(case)


@given(pairings(), cases(), st.integers(0, 99), st.data())
def test_a_batch_and_its_micro_batches_give_the_same_pairs(
    rollouts: Make, pairing: Pairing, case: Case, seed: int, data: st.DataObject
) -> None:
    size = len(case.scores)
    ids = [f"prompt {row}" for row in range(size)]
    whole = found(rollouts, pairing, case, seed, ids=ids, iteration=3)
    cut = data.draw(st.integers(0, size))
    parts = []
    for rows in (list(range(cut)), list(range(cut, size))):
        if rows:
            part = found(rollouts, pairing, case.rows(rows), seed, ids=[ids[r] for r in rows], iteration=3)
            parts += [(rows[prompt], chosen, rejected) for prompt, chosen, rejected in part]
    assert parts == whole


def test_random_pairs_change_with_seed_iteration_and_prompt_only(rollouts: Make) -> None:
    case = Case([[float(i) for i in range(12)]], [[[5 + i, 1] for i in range(12)]])

    def draw(seed: int, iteration: int, prompt: str) -> list[tuple[int, int, int]]:
        return found(rollouts, RandomPairs(6), case, seed, ids=[prompt], iteration=iteration)

    places = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    assert len({tuple(draw(*place)) for place in places}) == 4
    assert draw(0, 0, "a") == draw(0, 0, "a")


def test_random_pairs_favour_no_pair(rollouts: Make) -> None:
    """Each of the 6 pairs of 4 responses comes first with probability 1/6, within 4.5 standard errors."""
    case = Case([[0.1, 0.2, 0.3, 0.4]], [[[5 + i, 1] for i in range(4)]])
    draws = 1200
    first = Counter(found(rollouts, RandomPairs(1), case, seed)[0][1:] for seed in range(draws))
    assert len(first) == 6
    error = math.sqrt(draws * (1 / 6) * (5 / 6))
    assert max(abs(count - draws / 6) for count in first.values()) < 4.5 * error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scores", [[1.0, 1.0, 1.0], [math.nan, math.nan, 2.0]])
def test_nothing_to_compare_makes_no_pairs(rollouts: Make, kind: type[Pairing], scores: list[float]) -> None:
    batch = rollouts([[[3, 1], [4, 1], [5, 1]]])
    pairs = kind().pair(batch, torch.tensor([scores]), seed=0)
    assert isinstance(pairs, PairIndices)
    assert len(pairs) == 0
    assert pairs.prompt.dtype == torch.int64


@pytest.mark.parametrize(
    ("truncated", "expected"),
    [("keep", {(0, 1), (0, 2), (1, 2)}), ("mask", {(1, 2)}), ("drop", {(1, 2)})],
)
def test_a_cut_response_that_scores_best(rollouts: Make, truncated: Any, expected: set[tuple[int, int]]) -> None:
    case = Case([[3.0, 2.0, 1.0]], [[[7, 7], [3, 1], [4, 1]]])
    pairs = found(rollouts, RandomPairs(9, truncated=truncated), case)
    assert {(chosen, rejected) for _, chosen, rejected in pairs} == expected


@pytest.mark.parametrize(
    ("truncated", "expected"),
    [("keep", {(0, 1), (0, 2), (1, 2)}), ("mask", {(0, 1), (0, 2), (1, 2)}), ("drop", {(0, 1)})],
)
def test_a_cut_response_that_scores_worst(rollouts: Make, truncated: Any, expected: set[tuple[int, int]]) -> None:
    case = Case([[3.0, 2.0, 1.0]], [[[3, 1], [4, 1], [7, 7]]])
    pairs = found(rollouts, RandomPairs(9, truncated=truncated), case)
    assert {(chosen, rejected) for _, chosen, rejected in pairs} == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(BestWorst, [(0, 1, 3), (0, 1, 2)]), (TopBottom, [(0, 1, 3)]), (RandomPairs, [(0, 1, 2), (0, 1, 3), (0, 2, 3)])],
)
def test_the_best_that_may_be_chosen_stands_in_for_a_cut_one(
    rollouts: Make, kind: type[Pairing], expected: list[tuple[int, int, int]]
) -> None:
    case = Case([[3.0, 2.0, 1.0, 0.0]], [[[7, 7], [3, 1], [4, 1], [5, 1]]])
    assert sorted(found(rollouts, kind(9, truncated="mask"), case)) == sorted(expected)


@pytest.mark.parametrize(("setting", "value"), [("per_prompt", 0), ("min_margin", -0.5)])
def test_settings_out_of_range_are_named(setting: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"{setting} must be >= \d, got {value}.*selection.pairs.{setting}"):
        RandomPairs(**{setting: value})  # type: ignore[arg-type]
