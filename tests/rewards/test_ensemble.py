"""Ensembles against loops over members, prompts and responses."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards import (
    AgreementEnsemble,
    ByCategory,
    CautiousEnsemble,
    FunctionReward,
    MeanEnsemble,
    MinEnsemble,
    OnlineEnsemble,
    Pool,
    RewardModel,
    WeightedEnsemble,
)
from laser_pl.rewards.scores import Scores, as_tensor
from tests.runs import ThroughDisk

NAN = math.nan
Row = list[float]


class Table(RewardModel):
    """Its scores are a table made beforehand."""

    def __init__(self, scores: Any) -> None:
        self.scores = scores

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        scores: Scores = self.scores
        return scores


PROMPTS = [Prompt("p", "?", "unused", category="x"), Prompt("q", "?", "unused", category="y")]
RESPONSES = [["a", "b", "c", "d"]] * 2


def combined(kind: Callable[[dict[str, RewardModel]], RewardModel], tables: Sequence[Any]) -> list[Row]:
    scores = kind({str(i): Table(table) for i, table in enumerate(tables)}).score(PROMPTS, RESPONSES)
    found: list[Row] = as_tensor(scores, (2, 4), "it").tolist()
    return found


def slow_z(row: Row) -> Row:
    known = [value for value in row if value == value]
    if len(known) == 0 or max(known) == min(known):
        return [0.0 if value == value else NAN for value in row]
    mean, spread = statistics.fmean(known), statistics.pstdev(known)
    return [(value - mean) / spread for value in row]


def slow(rule: Callable[[list[float]], float], rows: list[Row]) -> Row:
    """A rule over the members' standardised opinions of each response."""
    table = [slow_z(row) for row in rows]
    found = []
    for opinions in zip(*table, strict=True):
        known = [value for value in opinions if value == value]
        found.append(rule(known) if known else NAN)
    return found


def slow_agreement(rows: list[Row]) -> Row:
    n, found = len(rows[0]), []
    for i in range(n):
        won = 0
        for j in range(n):
            votes = sum((row[i] > row[j]) - (row[i] < row[j]) for row in rows if row[i] == row[i] and row[j] == row[j])
            won += (votes > 0) - (votes < 0)
        found.append(won / n if any(row[i] == row[i] for row in rows) else NAN)
    return found


RULES: dict[str, tuple[Callable[[dict[str, RewardModel]], RewardModel], Callable[[list[Row]], Row]]] = {
    "mean": (MeanEnsemble, lambda rows: slow(statistics.fmean, rows)),
    "min": (MinEnsemble, lambda rows: slow(min, rows)),
    "cautious": (
        lambda members: CautiousEnsemble(members, caution=0.7),
        lambda rows: slow(lambda known: statistics.fmean(known) - 0.7 * statistics.pstdev(known), rows),
    ),
    "agreement": (AgreementEnsemble, slow_agreement),
}
SCORE = st.one_of(st.just(NAN), st.integers(-3, 3).map(float), st.floats(-5, 5).map(lambda x: round(x, 3)))
TABLE = st.lists(st.lists(SCORE, min_size=4, max_size=4), min_size=2, max_size=2)


@pytest.mark.parametrize("rule", RULES)
@given(tables=st.lists(TABLE, min_size=1, max_size=4))
def test_ensemble_equals_loops(rule: str, tables: list[list[Row]]) -> None:
    kind, expected = RULES[rule]
    found = combined(kind, [torch.tensor(table, dtype=torch.float64) for table in tables])
    for row in range(2):
        assert found[row] == pytest.approx(expected([table[row] for table in tables]), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("rule", RULES)
def test_a_members_unit_does_not_matter(rule: str) -> None:
    kind, _ = RULES[rule]
    one, two = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    plain = combined(kind, [one, two])
    for row, again in zip(plain, combined(kind, [1000 * one - 7, 1e-3 * two + 2]), strict=True):
        assert again == pytest.approx(row, abs=1e-6)


def test_by_hand() -> None:
    """Three members; the third objects to what the others like best."""
    rows = [[4.0, 3.0, 2.0, 1.0], [40.0, 30.0, 20.0, 10.0], [-9.0, 1.0, 1.0, 1.0]]
    tables = [torch.tensor([row, row]) for row in rows]
    z = [1.3416407864998738, 0.4472135954999579]
    down, up = -1.7320508075688772, 0.5773502691896257
    assert combined(MeanEnsemble, tables)[0][:2] == pytest.approx([(2 * z[0] + down) / 3, (2 * z[1] + up) / 3])
    assert combined(MinEnsemble, tables)[0] == pytest.approx([down, z[1], -z[1], -z[0]])
    assert combined(AgreementEnsemble, tables)[0] == pytest.approx([0.75, 0.25, -0.25, -0.75])


def test_lists_with_none_and_infinite_scores_are_opinions_less_those() -> None:
    found = combined(MeanEnsemble, [[[1.0, None, 3.0, math.inf]] * 2, torch.tensor([[NAN, 5.0, 7.0, NAN]] * 2)])
    assert found[0][:3] == pytest.approx([-1.0, -1.0, 1.0])
    assert math.isnan(found[0][3])


def test_a_member_of_another_shape_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"member '1' returned scores of shape \(2, 3\), expected \(2, 4\)"):
        combined(MeanEnsemble, [torch.zeros(2, 4), torch.zeros(2, 3)])


@pytest.mark.parametrize("kind", [MeanEnsemble, ByCategory])
def test_without_members_there_is_none(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind.__name__} has no members"):
        kind({})


def test_caution_is_not_negative() -> None:
    with pytest.raises(ConfigurationError, match="caution must be >= 0, got -1"):
        CautiousEnsemble({"a": Table([])}, caution=-1.0)


def test_each_category_is_judged_by_its_own() -> None:
    def ones(completions: list[str], **columns: Any) -> list[float]:
        return [1.0] * len(completions)

    by_category = ByCategory({"x": FunctionReward(ones), "y": Table([[None, 2.0, 3.0, 4.0]])})
    assert by_category.score(PROMPTS, RESPONSES) == [[1.0] * 4, [None, 2.0, 3.0, 4.0]]


def test_silence_of_all_members_is_silence_and_no_fault() -> None:
    """One that says nothing and one that says NaN are not silent together."""
    silent, faulty = Table([[None] * 4] * 2), Table([[None, NAN, 1.0, 2.0]] * 2)
    first, _ = MeanEnsemble({"a": silent, "b": faulty}).score(PROMPTS, RESPONSES)
    assert (first[0], first[2:]) == (None, [-1.0, 1.0])
    assert first[1] != first[1]
    assert MeanEnsemble({"a": silent, "b": silent}).score(PROMPTS, RESPONSES) == [[None] * 4] * 2


def test_who_has_no_weight_breaks_no_silence() -> None:
    """Nor is it a fault where all weights pass through 0."""
    prompts, responses = [Prompt("0", "", "")], [["x", "y"]]
    said, silent = Table([[1.0, 2.0]]), Table([[None, None]])
    assert WeightedEnsemble({"said": said, "silent": silent}, {"said": 0, "silent": 1}).score(prompts, responses) == [
        [None, None]
    ]
    turns = WeightedEnsemble({"a": said, "b": said}, {"a": 1, "b": -1}, {"a": -1, "b": 1}, over_steps=2)
    turns.learn({})
    assert turns.score(prompts, responses) == [[None, None]]


def test_what_it_costs_is_what_its_members_cost() -> None:
    class Twice(Table):
        def forwards_per_response(self, n: int) -> float:
            return 2.0

    table = [[1.0, 2.0]]
    prompts, responses = [Prompt("0", "", "", category="a"), Prompt("1", "", "", category="b")], [["x", "y"]] * 2
    routed = ByCategory({"a": Twice(table), "b": Table(table)})
    assert routed.forwards_per_response(2) == 2.0  # at most, for a plan
    pool = Pool({"routed": routed, "mean": MeanEnsemble({"one": routed, "two": Twice(table * 2)})})
    for name in pool.reward_models:
        pool.score(name, prompts, responses, torch.device("cpu"))
    assert pool.forwards == {"routed": 2 * 2 + 2, "mean": 2 * 2 + 2 + 2 * 4}


def test_a_category_without_a_reward_model_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no reward model for the category 'y', only for x"):
        ByCategory({"x": Table([[1.0] * 4])}).score(PROMPTS, RESPONSES)


# -- weights -----------------------------------------------------------------------------------------------------------

TABLES = [
    [[0.1, 0.7, 0.3, NAN], [9.0, 7.0, 7.0, 8.0]],
    [[5.0, -5.0, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0]],
    [[NAN, 100.0, 300.0, 200.0], [0.0, 1.0, 2.0, 4.0]],
]


def normalised_by_hand(table: list[Row], within: str) -> list[Row]:
    """Mean 0 and deviation 1 of what there is; all equal are 0."""
    of = [[v for row in table for v in row if not math.isnan(v)]] * 2 if within == "batch" else [
        [v for v in row if not math.isnan(v)] for row in table
    ]  # fmt: skip
    spread = [statistics.pstdev(values) or 1.0 for values in of]
    return [[(v - statistics.fmean(of[r])) / spread[r] for v in row] for r, row in enumerate(table)]


@pytest.mark.parametrize("within", ["prompt", "batch"])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [3.0, 0.5, -1.0], [0.0, 2.0, 1.0]])
def test_each_member_is_normalised_and_then_weighted(weights: Row, within: Any) -> None:
    by_name = {str(k): weight for k, weight in enumerate(weights)}
    found = combined(lambda members: WeightedEnsemble(members, by_name, within=within), TABLES)
    tables = [normalised_by_hand(table, within) for table in TABLES]
    for row in range(2):
        for i in range(4):
            said = [
                (w, table[row][i]) for w, table in zip(weights, tables, strict=True) if not math.isnan(table[row][i])
            ]
            expected = sum(w * v for w, v in said) / sum(abs(w) for w, _ in said)
            assert found[row][i] == pytest.approx(expected, abs=1e-12)


def test_alike_weights_are_the_mean_ensemble() -> None:
    first = [[0.1, 0.7, 0.3, 0.2], TABLES[0][1]]
    found, expected = (combined(kind, [first, TABLES[1]]) for kind in (WeightedEnsemble, MeanEnsemble))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


def test_weights_move_in_equal_steps_and_go_on_after_a_checkpoint(through_disk: ThroughDisk) -> None:
    def make() -> WeightedEnsemble:
        members = {"a": Table([]), "b": Table([])}
        return WeightedEnsemble(members, {"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 2.0}, over_steps=4)

    ensemble = make()
    assert ensemble.weights.tolist() == [1.0, 0.0]
    ensemble.learn({})
    assert ensemble.weights.tolist() == [0.75, 0.5]
    again = make()
    again.load_state_dict(through_disk(ensemble.state_dict()))
    for _ in range(5):
        again.learn({})
    assert again.weights.tolist() == [0.0, 2.0]


def test_learned_weights_are_weights() -> None:
    online = OnlineEnsemble({"a": Table([]), "b": Table([])})
    assert isinstance(online, WeightedEnsemble)
    online.learn({0: torch.tensor([1.0, -1.0], dtype=torch.float64)})
    assert online.weights.tolist() == pytest.approx([1 / (1 + math.exp(-0.2)), 1 / (1 + math.exp(0.2))])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": {"a": 1.0}}, "'b' is left out"),
        ({"weights": {"a": 1.0, "b": 1.0, "c": 1.0}}, "'c' is no member. Its members are a, b"),
        ({"weights": {"a": 0.0, "b": 0.0}}, "got zeros only"),
        ({"weights": {"a": 0.0, "b": NAN}}, "got nan for 'b'"),
        ({"final_weights": {"a": 1.0, "b": 2.0}}, "need over_steps >= 1"),
        ({"over_steps": 5}, "over_steps need final_weights"),
    ],
)
def test_weights_that_cannot_be_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        WeightedEnsemble({"a": Table([]), "b": Table([])}, **settings)
