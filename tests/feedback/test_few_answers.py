"""A few answers and what likelihoods say: the formula against a twin, and which answers are looked at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.batches import Prompt, PromptLosses, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.evidence import Evidence, probability_of_so_low
from laser_pl.feedback.observations import Observations
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals import Cooling, FewAnswers
from laser_pl.feedback.signals.cooling import gain_of_the_likelier
from laser_pl.metrics.grader import Grader
from laser_pl.metrics.matchers import Exact
from tests.runs import ThroughDisk

Make = Callable[..., RolloutBatch]
NAN = math.nan

# -- the formula -----------------------------------------------------------------------------------------------------


def test_scores_that_order_all_responses_as_their_likelihoods_are_expected_to_be_right_always() -> None:
    """Normal scores at equal steps of probability: the gain is the mean of the larger of two, 1 / sqrt(pi)."""
    quantiles = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    scores = math.sqrt(2) * torch.erfinv(2 * quantiles - 1)
    ordered = (scores * (2 * quantiles - 1)).mean()  # the covariance with their standing
    known = Evidence(worth=1.0)
    known.gain("a", float(ordered))
    assert known.without_answers("a") == pytest.approx(1.0, abs=1e-4)
    few = torch.linspace(-2, 2, 40, dtype=torch.float64)[None]
    assert gain_of_the_likelier(few, few) == pytest.approx(-gain_of_the_likelier(-few, few))


SHARE = st.one_of(st.floats(0, 1), st.just(NAN))


@given(
    st.floats(0, 10),
    st.lists(st.one_of(st.floats(-0.6, 0.6), st.just(NAN)), max_size=4),
    st.lists(st.tuples(st.integers(0, 3), SHARE, st.integers(0, 9)), max_size=6),
)
def test_the_worth_equals_a_twin(worth: float, gains: list[float], answers: list[tuple[int, float, int]]) -> None:
    known = Evidence(worth)
    for gain in gains:
        known.gain("a", gain)
    for prompt, share, pairs in answers:
        known.answer(f"p{prompt}", {"a": share} if pairs else {}, pairs)
    told = [gain for gain in gains if not math.isnan(gain)]
    expected = min(1.0, max(0.0, 0.5 + math.sqrt(math.pi) / 2 * sum(told) / len(told))) if told else 0.5
    total = weights = 0.0
    for prompt in range(4):
        shares = [share for p, share, pairs in answers if p == prompt and pairs and not math.isnan(share)]
        if shares:
            weight = min(4, max(pairs for p, _, pairs in answers if p == prompt)) / 4
            total, weights = total + weight * sum(shares) / len(shares), weights + weight
    whole = weights + worth
    twin = (total + worth * expected) / whole if whole else 0.5
    assert known.value("a") == pytest.approx(twin, abs=1e-12)


@given(st.lists(st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3), max_size=8))
def test_the_probability_counts_patterns_of_signs(values: list[float]) -> None:
    patterns = [sum(s * abs(v) for s, v in zip(signs, values, strict=True))
                for signs in itertools.product((1, -1), repeat=len(values))]  # fmt: skip
    expected = sum(pattern <= sum(values) + 1e-9 for pattern in patterns) / len(patterns)
    assert probability_of_so_low(values) == pytest.approx(expected)


def test_of_many_values_the_sum_is_taken_to_be_normal() -> None:
    values = [-1.0] * 9 + [1.0] * 4
    exact = sum(math.comb(13, count) for count in range(5)) / 2**13  # at most 4 of 13 above 0
    assert probability_of_so_low(values) == pytest.approx(exact, abs=0.06)
    assert probability_of_so_low([-1.0] * 50) < 1e-9


def test_arms_that_likelihoods_favour_and_answers_do_not_mislead() -> None:
    known = Evidence(worth=4.0)
    for arm, gain in (("liked", 0.3), ("other", -0.1)):
        known.gain(arm, gain)
    assert known.chance_of_misleading(["liked", "other"]) == 1.0
    for number in range(5):
        known.answer(f"p{number}", {"liked": 0.2, "other": 0.9}, pairs=6)
        assert known.chance_of_misleading(["liked", "other"]) == pytest.approx(0.5 ** (number + 1))
    for number in range(5):
        known.answer(f"p{number}", {"liked": 1.0, "other": 0.0}, pairs=6)  # measured again: .6 and .45 in the mean
    assert known.chance_of_misleading(["liked", "other"]) == 1.0


# -- the signal ------------------------------------------------------------------------------------------------------


class Listening(Grader):
    """Right is what equals the answer; it keeps which prompts it was asked about."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def grade(self, response: str, prompt: Prompt) -> float:
        self.asked.add(prompt.id)
        return float(response == prompt.answer)


def batch_of(make: Make, ids: Sequence[str], answer: str | None = "a", category: str = "all") -> RolloutBatch:
    """Prompts with the responses a, b, c, d, of which the later ones are likelier."""
    texts = [["a", "b", "c", "d"]] * len(ids)
    batch = make([[[5, 1]] * 4] * len(ids), ids=list(ids), answers=[answer] * len(ids), texts=texts)
    prompts = tuple(replace(prompt, category=category) for prompt in batch.prompts.prompts)
    logprobs = torch.tensor([[-4.0, -3.0, -2.0, -1.0]] * len(ids), dtype=torch.float64)
    return replace(batch, prompts=replace(batch.prompts, prompts=prompts), reference_logprobs=logprobs)


RIGHT, LIKELY = [3.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]
"""Scores of an arm that knows that a is right, and of one that likes what is likely."""


def step(signal: FewAnswers, batch: RolloutBatch, grader: Grader | None = None) -> Observations:
    def scores(rows: list[int]) -> Tensor:
        return torch.tensor([[RIGHT] * len(rows), [LIKELY] * len(rows)], dtype=torch.float64)

    ones = torch.ones(len(batch))
    losses = PromptLosses({"loss": ones}, {"loss": ones})
    return signal.measure(batch, losses, Queries(scores=scores, grader=grader or Exact()))  # type: ignore[arg-type]


def few(**kwargs: Any) -> FewAnswers:
    signal = FewAnswers(**{"share": 1e-9, "seed": 0, **kwargs})
    signal.start(["right", "likely"])
    return signal


def test_the_first_answers_of_each_category_are_used_and_no_others(rollouts: Make) -> None:
    signal, grader = few(answers=2), Listening()
    step(signal, batch_of(rollouts, ["p0"], answer=None), grader)
    step(signal, batch_of(rollouts, ["p1", "p2", "p3"]), grader)
    step(signal, batch_of(rollouts, ["q1"], category="other"), grader)
    step(signal, batch_of(rollouts, ["p4", "p2", "q2", "p1"]), grader)
    assert grader.asked == {"p1", "p2", "q1"}
    assert [known["answers"] for known in signal.findings()] == [2, 1]


def test_all_arms_are_observed_where_any_was_asked_with_what_they_are_worth_there(rollouts: Make) -> None:
    """The right one orders its three pairs rightly, the likely one none; they count three quarters of an answer."""
    seen = step(few(answers=1, worth=1.0), batch_of(rollouts, ["p1", "p2"]))
    assert seen.prompt.tolist() == [0, 0]
    assert seen.chance.tolist() == [0.5, 0.5]
    standing = torch.tensor([-1.0, -1 / 3, 1 / 3, 1.0], dtype=torch.float64)
    expected = []
    for scores, share in ((RIGHT, 1.0), (LIKELY, 0.0)):
        own = torch.tensor(scores, dtype=torch.float64)
        gain = float((own * standing).mean() / own.std(correction=0))
        without = min(1.0, 0.5 + math.sqrt(math.pi) / 2 * gain)
        expected.append((0.75 * share + without) / 1.75)
    assert seen.value.tolist() == pytest.approx(expected, abs=1e-12)


def test_without_answers_it_orders_arms_as_cooling_by_ranks_does(rollouts: Make) -> None:
    batch = batch_of(rollouts, ["p1"])
    seen = step(few(answers=0, share=1.0), batch)
    cooling = Cooling(share=1.0, likelihoods="ranks")
    cooling.start(["right", "likely"])
    ones = torch.ones(1)
    scores = torch.tensor([[RIGHT], [LIKELY]], dtype=torch.float64)
    gains = cooling.measure(batch, PromptLosses({"loss": ones}, {"loss": ones}), Queries(scores=lambda _: scores)).value
    expected = (0.5 + math.sqrt(math.pi) / 2 * gains).clamp(0, 1)
    assert seen.value.tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_whom_it_asks_is_known_before_and_changes_nothing(rollouts: Make) -> None:
    signal = few(answers=2)
    prompts = batch_of(rollouts, ["p1", "p2", "p3"]).prompts.prompts
    assert signal.polled(prompts) == signal.polled(prompts) == [0, 1]
    assert signal.findings() == []


def test_what_people_compared_takes_the_place_of_the_datas_answers(rollouts: Make) -> None:
    signal, grader = few(answers=2), Listening()
    compared = [Prompt("x", "x", "x"), Prompt("y", "y", "y")]
    shares = torch.tensor([[1.0, 0.0], [0.5, NAN]], dtype=torch.float64)
    signal.learn_labels(compared, shares, torch.tensor([4, 1]))
    step(signal, batch_of(rollouts, ["p1"]), grader)
    assert grader.asked == set()
    (found,) = signal.findings()
    assert found["answers"] == 2
    assert found["by_answers"] == {"right": pytest.approx((1.0 + 0.25 * 0.5) / 1.25), "likely": 0.0}


def test_answers_against_the_likelihoods_are_found_and_five_are_needed(rollouts: Make) -> None:
    signal = few(answers=8)
    step(signal, batch_of(rollouts, [f"p{number}" for number in range(4)]))
    assert signal.findings()[0]["misled"] is None
    step(signal, batch_of(rollouts, ["p4"]))
    assert signal.findings()[0]["misled"] == pytest.approx(1 / 32)


def test_its_state_goes_on(rollouts: Make, through_disk: ThroughDisk) -> None:
    one, grader = few(answers=2), Listening()
    step(one, batch_of(rollouts, ["p1", "p2"]))
    other = few(answers=2)
    other.load_state_dict(through_disk(one.state_dict()))
    later = batch_of(rollouts, ["p2", "p3"])
    assert torch.equal(step(other, later, grader).value, step(one, later).value)
    assert grader.asked == {"p2"}
    assert other.findings() == one.findings()


@pytest.mark.parametrize("wrong", [{"answers": -1}, {"worth": -1.0}, {"worth": math.inf}, {"worth": NAN}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} must be .* Set selection.signal"):
        FewAnswers(**wrong)
