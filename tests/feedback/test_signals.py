"""What a trained batch says of its judges, on numbers made by hand and against loops."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.batches import LabelledBatch, PairIndices, PromptLosses, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.observations import Observations, mean_by_arm
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.share import Share
from laser_pl.feedback.signals import Advantage, Cooling, Dpo, Gap, Loss, Majority, Nll, ProbeGain, Signal, Trusted
from laser_pl.feedback.signals.cooling import covariance
from laser_pl.feedback.signals.majority import agreement
from laser_pl.feedback.signals.spread import Spread
from laser_pl.feedback.signals.trusted import share_ordered_rightly
from laser_pl.logprobs.logprob_model import ResponseBatch
from laser_pl.metrics.graded import ByCategory, TokenF1
from laser_pl.metrics.grader import Grader
from laser_pl.metrics.matchers import Exact, Number
from laser_pl.objectives import Dpo as DpoObjective
from tests.runs import ThroughDisk

Make = Callable[..., RolloutBatch]
NAN = math.nan


def judged(
    make: Make, arms: list[int], scores: list[list[float]], pairs: list[tuple[int, int, int]], **kwargs: Any
) -> LabelledBatch:
    """A labelled batch."""
    n = len(scores[0])
    batch = make([[[5 + i, 1] for i in range(n)] for _ in arms], **kwargs)
    prompt, chosen, rejected = torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).unbind(-1)
    return batch.labelled(
        torch.tensor(arms), torch.tensor(scores, dtype=torch.float64), PairIndices(prompt, chosen, rejected)
    )


def losses(dpo: list[float], nll: list[float], batch: RolloutBatch | None = None) -> PromptLosses:
    """With a weight of 2; what chance gives is known of a batch."""
    parts = {"dpo": torch.tensor(dpo), "nll": torch.tensor(nll)}
    by_chance = {} if batch is None else DpoObjective(nll_weight=2.0).by_chance(batch)
    return PromptLosses({"loss": parts["dpo"] + 2 * parts["nll"], **parts}, by_chance)


def refuse(question: object) -> Tensor:
    raise AssertionError(f"asked about {question}")


not_asked = Queries(refuse, refuse, refuse)


def scoring(scores: Callable[[list[int]], Tensor]) -> Queries:
    """Only the reward models may be asked."""
    return Queries(scores, refuse, refuse)


def listed(seen: Observations) -> list[tuple[int, int, float]]:
    assert seen.value.dtype == seen.chance.dtype == torch.float64
    assert seen.value.shape == seen.chance.shape
    assert seen.prompt.dtype == seen.arm.dtype == torch.int64
    return list(zip(seen.prompt.tolist(), seen.arm.tolist(), seen.value.tolist(), strict=True))


@pytest.mark.parametrize(
    ("signal", "expected"),
    [(Loss(), [-2.5, -4.75]), (Nll(), [-1.0, -2.0]), (Dpo(), [-0.5, -0.75])],
)
def test_the_loss_is_about_the_judge_of_each_prompt(rollouts: Make, signal: Signal, expected: list[float]) -> None:
    """The prompt without a pair has no loss and says nothing."""
    batch = judged(rollouts, [2, 0, 1], [[1.0, 0.0]] * 3, [(0, 0, 1), (2, 0, 1)])
    seen = signal.measure(batch, losses([0.5, NAN, 0.75], [1.0, NAN, 2.0], batch), not_asked)
    assert listed(seen) == [(0, 2, expected[0]), (2, 1, expected[1])]


def test_chance_is_the_mean_over_what_could_have_been_chosen(rollouts: Make) -> None:
    """By hand: responses of 2 and 4 tokens with -1 and -6 nats cost 0.5 and 1.5 a token, on average 1."""
    made = rollouts([[[3, 1], [4, 4, 4, 1]]])
    made = replace(made, reference_logprobs=torch.tensor([[-1.0, -6.0]], dtype=torch.float64))
    pair = torch.tensor([0]), torch.tensor([0]), torch.tensor([1])
    batch = made.labelled(torch.tensor([1]), torch.zeros(1, 2), PairIndices(*pair))
    of_loss = Loss().measure(batch, losses([0.5], [1.25], batch), not_asked)
    of_nll = Nll().measure(batch, losses([0.5], [1.25], batch), not_asked)
    assert of_loss.chance.tolist() == pytest.approx([-math.log(2) - 2 * 1.0], abs=1e-10)
    assert of_nll.chance.tolist() == pytest.approx([-1.0], abs=1e-10)


@pytest.mark.parametrize("signal", [Loss(), Nll(), Dpo()], ids=["loss", "nll", "dpo"])
@pytest.mark.parametrize("seed", range(3))
def test_before_training_judges_at_random_get_what_chance_gives(rollouts: Make, signal: Signal, seed: int) -> None:
    """Averaged over every response that could be chosen, with the losses of a policy that has not moved."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [[[5] * int(torch.randint(0, 6, (), generator=generator)) + [1] for _ in range(4)] for _ in range(3)]
    made = rollouts(tokens)
    made = replace(made, reference_logprobs=-3 * torch.rand(3, 4, generator=generator, dtype=torch.float64))
    totals, chances = [], []
    for chosen in range(4):
        rows = torch.arange(3)
        pairs = PairIndices(rows, torch.full((3,), chosen), torch.full((3,), (chosen + 1) % 4))
        batch = made.labelled(torch.zeros(3, dtype=torch.long), torch.zeros(3, 4), pairs)
        nll = [-float(batch.reference_logprobs[p, chosen]) / len(tokens[p][chosen]) for p in range(3)]
        parts = {
            "dpo": torch.full((3,), math.log(2), dtype=torch.float64),
            "nll": torch.tensor(nll, dtype=torch.float64),
        }
        by_chance = DpoObjective(nll_weight=0.7).by_chance(batch)
        first = PromptLosses({"loss": parts["dpo"] + 0.7 * parts["nll"], **parts}, by_chance)
        seen = signal.measure(batch, first, not_asked)
        totals.append(seen.value)
        chances.append(seen.chance)
    torch.testing.assert_close(torch.stack(totals).mean(0), chances[0], rtol=0, atol=1e-10)
    assert all(torch.equal(chance, chances[0]) for chance in chances)


def gap(arms: str = "abc") -> Gap:
    signal = Gap()
    signal.start(list(arms))
    return signal


def test_gap_by_hand(rollouts: Make) -> None:
    """Judge 0's scores spread by 1 about each prompt's mean, judge 1's by 4; gaps of 2 and 8 are both 2 spreads."""
    scores = [[1.0, -1.0], [104.0, 96.0], [11.0, 9.0]]
    batch = judged(rollouts, [0, 1, 0], scores, [(0, 0, 1), (1, 0, 1)])
    assert listed(gap().measure(batch, losses([0.7] * 3, [1.0] * 3), not_asked)) == [(0, 0, 2.0), (1, 1, 2.0)]


def random_steps(make: Make, seed: int) -> list[LabelledBatch]:
    """Batches of 4 prompts and 5 responses by 3 judges, with missing opinions and prompts without pairs."""
    generator = torch.Generator().manual_seed(seed)
    steps = []
    for _ in range(6):
        arms = torch.randint(3, (4,), generator=generator).tolist()
        table = torch.randn(4, 5, generator=generator, dtype=torch.float64) * (1 + torch.tensor(arms)[:, None])
        table[torch.rand(4, 5, generator=generator) < 0.2] = NAN
        scores: list[list[float]] = table.tolist()
        pairs = [
            (p, c, r) for p in range(4) for c in range(5) for r in range(5) if p != 2 and scores[p][c] > scores[p][r]
        ]
        steps.append(judged(make, arms, scores, pairs))
    return steps


@pytest.mark.parametrize("seed", range(5))
def test_gap_equals_loops_over_all_scores_so_far(rollouts: Make, seed: int) -> None:
    signal, deviations = gap(), {arm: [] for arm in range(3)}
    for batch in random_steps(rollouts, seed):
        arms, scores = batch.arms.tolist(), batch.scores.tolist()
        for arm, row in zip(arms, scores, strict=True):
            known = [score for score in row if score == score]
            deviations[arm] += [score - statistics.fmean(known) for score in known]
        expected = []
        for prompt in range(4):
            own = [
                scores[p][c] - scores[p][r]
                for p, c, r in zip(
                    batch.pairs.prompt.tolist(),
                    batch.pairs.chosen.tolist(),
                    batch.pairs.rejected.tolist(),
                    strict=True,
                )
                if p == prompt
            ]
            if own:
                all_of_judge = deviations[arms[prompt]]
                spread = math.sqrt(math.fsum(d * d for d in all_of_judge) / len(all_of_judge))
                expected.append((prompt, arms[prompt], statistics.fmean(own) / spread))
        seen = listed(signal.measure(batch, losses([0.7] * 4, [1.0] * 4), not_asked))
        assert [place[:2] for place in seen] == [place[:2] for place in expected]
        assert [place[2] for place in seen] == pytest.approx([place[2] for place in expected], abs=1e-10)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_judges_unit_does_not_matter(rollouts: Make, factor: float) -> None:
    one, two = gap(), gap()
    for batch in random_steps(rollouts, seed=0):
        plain = one.measure(batch, losses([0.7] * 4, [1.0] * 4), not_asked)
        batch.scores.mul_(factor)
        torch.testing.assert_close(two.measure(batch, losses([0.7] * 4, [1.0] * 4), not_asked).value, plain.value)


def test_a_saved_gap_goes_on_bit_by_bit(through_disk: ThroughDisk, rollouts: Make) -> None:
    one, two, steps = gap(), gap(), random_steps(rollouts, seed=1)
    for batch in steps[:3]:
        one.measure(batch, losses([0.7] * 4, [1.0] * 4), not_asked)
    two.load_state_dict(through_disk(one.state_dict()))
    for batch in steps[3:]:
        again = [signal.measure(batch, losses([0.7] * 4, [1.0] * 4), not_asked).value for signal in (one, two)]
        assert torch.equal(*again)


def test_a_judge_keeps_its_spread_by_name(through_disk: ThroughDisk, rollouts: Make) -> None:
    """Judge b was the second of two and is the first of two in the run that goes on."""
    one, two = gap("ab"), gap("bc")
    one.measure(judged(rollouts, [1], [[4.0, -4.0]], [(0, 0, 1)]), losses([0.7], [1.0]), not_asked)
    two.load_state_dict(through_disk(one.state_dict()))
    batch = judged(rollouts, [0], [[4.0, -4.0]], [(0, 0, 1)])
    assert listed(two.measure(batch, losses([0.7], [1.0]), not_asked)) == [(0, 0, 2.0)]
    assert two.state_dict()["counts"] == {"b": 4}


SCORE = st.one_of(st.just(NAN), st.floats(-5, 5), st.sampled_from([0.0, 1.0]))


@given(st.lists(st.tuples(SCORE, st.booleans()), min_size=1, max_size=9))
def test_share_ordered_rightly_equals_loops(responses: list[tuple[float, bool]]) -> None:
    points: list[float] = []
    for score, right in responses:
        for other, other_right in responses:
            if right and not other_right and score == score and other == other:
                points.append(1.0 if score > other else 0.5 if score == other else 0.0)
    scores = torch.tensor([score for score, _ in responses], dtype=torch.float64)
    found = float(share_ordered_rightly(scores, torch.tensor([right for _, right in responses])))
    assert found == pytest.approx(statistics.fmean(points) if points else NAN, abs=1e-10, nan_ok=True)


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=2, max_size=9))
def test_turning_the_scores_round_turns_the_share_round(responses: list[tuple[float, bool]]) -> None:
    scores = torch.tensor([score for score, _ in responses], dtype=torch.float64)
    right = torch.tensor([right for _, right in responses])
    assume(0 < int(right.sum()) < len(right))
    together = share_ordered_rightly(scores, right) + share_ordered_rightly(-scores, right)
    assert float(together) == pytest.approx(1.0, abs=1e-12)


TEXTS = [["4", "five", "3"], ["9", "9", "9"], ["1", "2", "1.0"], ["7", "8", "x"]]
ANSWERS = ["4", "9", "1", None]


def trusted_batch(make: Make) -> LabelledBatch:
    """Prompt 0 and 2 have right and wrong responses, 1 has right ones only, 3 has no answer."""
    return judged(make, [0] * 4, [[1.0, 0.0, 0.5]] * 4, [(0, 0, 1)], texts=TEXTS, answers=ANSWERS)


def test_all_arms_are_checked_on_trusted_prompts_only(rollouts: Make) -> None:
    asked: list[list[int]] = []

    def score_all(rows: list[int]) -> Tensor:
        asked.append(rows)
        return torch.tensor(
            [
                [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]],
                [[1.0, 2.0, 1.0], [1.0, 1.0, 1.0]],
                [[1.0, 2.0, NAN], [NAN, NAN, NAN]],
            ]
        )

    signal = Trusted(share=1.0, matcher=Number())
    seen = signal.measure(trusted_batch(rollouts), losses([0.7] * 4, [1.0] * 4), scoring(score_all))
    assert asked == [[0, 2]]
    # Prompt 0: response 0 is right. Prompt 2: responses 0 and 2 are. The last arm has no opinion on prompt 2.
    assert listed(seen) == [(0, 0, 1.0), (0, 1, 0.25), (0, 2, 0.0), (2, 0, 0.5), (2, 1, 0.5)]
    assert seen.chance.tolist() == [0.5] * 5


@pytest.mark.parametrize(
    ("own", "of_run", "rows"),
    [
        (None, Number(), [0, 2]),
        (Number(), Exact(), [0, 2]),  # told otherwise
        (None, Exact(), []),  # "it is 4" is not "4"
        (None, TokenF1(), [0, 2]),  # from half of the words on
        (None, TokenF1(right_from=1.0), []),
        (None, ByCategory({"all": Number()}), [0, 2]),
    ],
)
def test_who_is_right_is_said_by_the_runs_grader(
    rollouts: Make, own: Grader | None, of_run: Grader, rows: list[int]
) -> None:
    texts = [["it 4", "it 5", "it 6"]] * 4
    batch = judged(rollouts, [0] * 4, [[1.0, 0.0, 0.5]] * 4, [(0, 0, 1)], texts=texts, answers=["4", "8", "6", None])

    def score(rows: list[int]) -> Tensor:
        return torch.ones(2, len(rows), 3)

    def logprobs(responses: ResponseBatch) -> Tensor:
        return torch.zeros(len(responses.tokens))

    ask = Queries(score, logprobs, refuse, of_run)
    seen = Trusted(1.0, own).measure(batch, losses([0.7] * 4, [1.0] * 4), ask)
    assert seen.prompt.tolist() == [row for row in rows for _ in range(2)]
    gain = ProbeGain(matcher=own)
    gain.measure(batch, losses([0.7] * 4, [1.0] * 4), ask)
    assert [right for _, right, _ in gain.probes] == [[5 + place, 1] for place in (0, 2)[: len(rows)]]


def test_without_a_trusted_prompt_nobody_is_asked(rollouts: Make) -> None:
    batch = trusted_batch(rollouts)
    for seed in range(100):
        signal = Trusted(share=0.1, matcher=Number(), seed=seed)
        if not any(id_ in signal.trusted for id_ in ("p0", "p2")):
            break
    assert listed(signal.measure(batch, losses([0.7] * 4, [1.0] * 4), not_asked)) == []


@pytest.mark.parametrize("share", [0.05, 0.125, 0.5, 1.0])
def test_a_share_of_the_prompts_is_trusted(share: float) -> None:
    """Within 4.5 standard errors of 4,000 throws of a coin."""
    count = sum(f"prompt {i}" in Share(share, "trusted", 0) for i in range(4000))
    assert abs(count - 4000 * share) <= 4.5 * math.sqrt(4000 * share * (1 - share))


def test_trust_follows_from_seed_and_prompt() -> None:
    ids = [f"prompt {i}" for i in range(200)]
    shares = [Share(0.5, purpose, seed) for purpose, seed in (("a", 0), ("a", 0), ("a", 1), ("b", 0))]
    assert len({tuple(id_ in share for id_ in ids) for share in shares}) == 3


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
@pytest.mark.parametrize("signal", [Trusted, Majority, Cooling])
def test_a_share_out_of_range_is_named(signal: Callable[[float], Signal], share: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"share must be in \(0, 1\], got {share}"):
        signal(share)


# -- observations ------------------------------------------------------------------------------------------------------


@given(st.data())
def test_mean_by_arm_equals_loops(data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    places = st.tuples(st.integers(0, len(groups) - 1), st.integers(0, 2), st.floats(-3, 3), st.floats(-3, 3))
    rows = data.draw(st.lists(places, max_size=12))
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    seen = Observations(
        torch.tensor(columns[0], dtype=torch.long),
        torch.tensor(columns[1], dtype=torch.long),
        torch.tensor(columns[2], dtype=torch.float64),
        torch.tensor(columns[3], dtype=torch.float64),
    )
    found = mean_by_arm(seen, torch.tensor(groups))
    expected = {}
    for group in range(3):
        for arm in range(3):
            own = [row for row in rows if groups[row[0]] == group and row[1] == arm]
            if own:
                expected[group, arm] = statistics.fmean(r[2] for r in own), statistics.fmean(r[3] for r in own)
    assert list(zip(found.prompt.tolist(), found.arm.tolist(), strict=True)) == sorted(expected)
    both = zip(found.value.tolist(), found.chance.tolist(), strict=True)
    for pair, key in zip(both, sorted(expected), strict=True):
        assert pair == pytest.approx(expected[key], abs=1e-12)


# -- cooling -----------------------------------------------------------------------------------------------------------


def cooling(share: float = 1.0, arms: str = "ab") -> Cooling:
    signal = Cooling(share)
    signal.start(list(arms))
    return signal


def sampled(make: Make, logprobs: list[list[float]], **kwargs: Any) -> LabelledBatch:
    """A batch with these log-likelihoods."""
    n = len(logprobs[0])
    batch = judged(make, [0] * len(logprobs), [[0.0] * n] * len(logprobs), [(0, 0, 1)], **kwargs)
    return replace(batch, reference_logprobs=torch.tensor(logprobs, dtype=torch.float64))


def test_cooling_by_hand(rollouts: Make) -> None:
    """Arm a likes what is likely: scores -2, 2 (spread 2) with -3, -1 nats covary by 2. Arm b likes the opposite."""
    batch = sampled(rollouts, [[-3.0, -1.0]])
    scores = torch.tensor([[[-2.0, 2.0]], [[5.0, 4.0]]])
    seen = cooling().measure(batch, losses([0.7], [1.0]), scoring(lambda _: scores))
    assert listed(seen) == [(0, 0, 1.0), (0, 1, -1.0)]
    assert seen.chance.tolist() == [0.0, 0.0]


def test_cooling_per_token_does_not_favour_the_short(rollouts: Make) -> None:
    """Every token costs 1 nat: who likes short responses gains by the sum and not by the mean."""
    batch = rollouts([[[3, 1], [3, 3, 3, 1], [3, 3, 3, 3, 3, 1]]])
    batch = replace(batch, reference_logprobs=torch.tensor([[-2.0, -4.0, -6.0]], dtype=torch.float64))
    scores = torch.tensor([[[2.0, 1.0, 0.0]]])
    found = {}
    for reduction in ("sum", "mean"):
        signal = Cooling(1.0, reduction)
        signal.start(["short"])
        seen = signal.measure(batch, losses([0.7], [1.0]), scoring(lambda _: scores))
        found[reduction] = float(seen.value)
    assert found["sum"] == pytest.approx((8 / 3) ** 0.5)  # perfectly correlated: the deviation of the log-likelihoods
    assert found["mean"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_cooling_is_the_derivative_of_the_mean_score(rollouts: Make, seed: int) -> None:
    """Over a small answer space, sampled often: the mean score under p^tau, differentiated numerically at 1."""
    generator = torch.Generator().manual_seed(seed)
    logits, score = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    logprobs = logits.log_softmax(-1)

    def mean_score(tau: float) -> float:
        return float((tau * logprobs).softmax(-1) @ score)

    slope = (mean_score(1 + 1e-5) - mean_score(1 - 1e-5)) / 2e-5
    count = (logprobs.exp() * 4000).round().long()
    answers = torch.arange(4).repeat_interleave(count)  # every answer as often as it is likely
    batch = sampled(rollouts, [logprobs[answers].tolist()])
    spread = float(score[answers].std(correction=0))
    seen = cooling(arms="a").measure(batch, losses([0.7], [1.0]), scoring(lambda _: score[answers].view(1, 1, -1)))
    assert float(seen.value) * spread == pytest.approx(slope, abs=3e-3)


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_an_arms_unit_and_zero_do_not_matter_to_cooling(seed: int, factor: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, logprobs = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    one, two = (covariance_in_spreads(s, logprobs) for s in (scores, factor * scores + shift))
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


def covariance_in_spreads(scores: Tensor, logprobs: Tensor) -> Tensor:
    spread = Spread()
    spread.start(["a"])
    return covariance(scores, logprobs) / spread.observe(0, scores)


def test_cooling_asks_about_its_share_only(rollouts: Make) -> None:
    """And says nothing of responses that an arm has no opinion on."""
    signal = cooling(0.5)
    batch = sampled(rollouts, [[-3.0, -1.0, -2.0]] * 8)
    rows = [row for row in range(8) if f"p{row}" in signal.asked]
    assert 0 < len(rows) < 8
    asked: list[list[int]] = []

    def score_all(about: list[int]) -> Tensor:
        asked.append(about)
        scores = torch.randn(2, len(about), 3, generator=torch.Generator().manual_seed(0))
        scores[1, 0] = NAN
        return scores

    seen = signal.measure(batch, losses([0.7] * 8, [1.0] * 8), scoring(score_all))
    assert asked == [rows]
    expected = [(row, arm) for row in rows for arm in (0, 1) if (row, arm) != (rows[0], 1)]
    assert [place[:2] for place in listed(seen)] == expected


def test_a_saved_cooling_goes_on_bit_by_bit(through_disk: ThroughDisk, rollouts: Make) -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = cooling(), cooling()
    steps = [torch.randn(2, 2, 3, generator=generator, dtype=torch.float64) for _ in range(4)]
    batch = sampled(rollouts, [[-3.0, -1.0, -2.0], [-1.0, -1.5, -4.0]])

    def measured(signal: Cooling, scores: Tensor) -> Tensor:
        return signal.measure(batch, losses([0.7] * 2, [1.0] * 2), scoring(lambda _: scores)).value

    for scores in steps[:2]:
        measured(one, scores)
    two.load_state_dict(through_disk(one.state_dict()))
    for scores in steps[2:]:
        assert torch.equal(measured(one, scores), measured(two, scores))


# -- the others --------------------------------------------------------------------------------------------------------


@given(
    st.integers(2, 4).flatmap(
        lambda arms: st.integers(2, 4).flatmap(
            lambda n: st.lists(st.lists(SCORE, min_size=n, max_size=n), min_size=arms, max_size=arms)
        )
    )
)
def test_agreement_equals_loops(scores: list[list[float]]) -> None:
    found = agreement(torch.tensor(scores, dtype=torch.float64)[:, None])[:, 0].tolist()
    n = len(scores[0])

    def vote(arm: int, i: int, j: int) -> int | None:
        a, b = scores[arm][i], scores[arm][j]
        return None if a != a or b != b else (a > b) - (a < b)

    for arm in range(len(scores)):
        points = []
        for i in range(n):
            for j in range(n):
                others = sum(vote(other, i, j) or 0 for other in range(len(scores)) if other != arm)
                own = vote(arm, i, j)
                if own is not None and others != 0:
                    points.append(0.5 if own == 0 else float((own > 0) == (others > 0)))
        assert found[arm] == pytest.approx(statistics.fmean(points) if points else NAN, abs=1e-12, nan_ok=True)


def test_majority_is_asked_for_every_arm(rollouts: Make) -> None:
    scores = torch.tensor([[[2.0, 1.0]], [[5.0, 3.0]], [[0.0, 1.0]]])
    batch = sampled(rollouts, [[-3.0, -1.0]])
    seen = Majority(1.0).measure(batch, losses([0.7], [1.0]), scoring(lambda _: scores))
    # Arm a's others are split, so nothing is said of it or of b; c is against both.
    assert listed(seen) == [(0, 2, 0.0)]
    assert seen.chance.tolist() == [0.5]


def test_advantage_by_hand(rollouts: Make) -> None:
    """Each response in a pair is read once; the prompt without a pair says nothing."""
    batch = judged(rollouts, [1, 0, 1], [[3.0, 2.0, 1.0]] * 3, [(0, 0, 1), (0, 0, 2), (2, 1, 2)])
    read: list[tuple[int, int]] = []

    def start_logprobs(responses: ResponseBatch) -> Tensor:
        read.extend(zip(responses.prompt.tolist(), (responses.tokens[:, 0] - 5).tolist(), strict=True))
        return torch.tensor([-10.0 * p - i for p, i in read])

    seen = Advantage().measure(batch, losses([0.7, NAN, 0.7], [1.0] * 3), Queries(refuse, refuse, start_logprobs))
    assert sorted(read) == [(0, 0), (0, 1), (0, 2), (2, 1), (2, 2)]
    assert listed(seen) == [(0, 1, 1.5), (2, 1, 1.0)]
    assert seen.chance.tolist() == [0.0, 0.0]


def test_probe_gain_by_hand(rollouts: Make, through_disk: ThroughDisk) -> None:
    """Two probes are found in the first step and measured; from the second on, every judge gets the mean gain."""
    signal = ProbeGain(size=2, matcher=Number())
    batch = trusted_batch(rollouts)
    readings: list[ResponseBatch] = []
    levels = iter([[1.0, 2.0, 0.0, 0.0], [1.5, 2.5, -1.0, 0.0], [1.5, 2.5, 0.0, 0.0]])

    def logprobs(responses: ResponseBatch) -> Tensor:
        readings.append(responses)
        return torch.tensor(next(levels))  # of the right responses, then of the wrong ones

    ask = Queries(refuse, logprobs, refuse)
    assert listed(signal.measure(batch, losses([0.7] * 4, [1.0] * 4), ask)) == []
    # Prompt 0: response 0 is right, 1 is not. Prompt 2: 0 is right and 1 is not. Tokens 5 and 6, then the end.
    assert readings[0].tokens.tolist() == [[5, 1], [5, 1], [6, 1], [6, 1]]
    assert readings[0].prompt.tolist() == [0, 1, 0, 1]
    for row, of in enumerate((0, 2)):
        known = batch.prompts.tokens[of][batch.prompts.mask[of].bool()]
        assert torch.equal(readings[0].prompts.tokens[row][readings[0].prompts.mask[row].bool()], known)
    again = ProbeGain(size=2, matcher=Number())
    again.load_state_dict(through_disk(signal.state_dict()))
    second = again.measure(batch, losses([0.7, NAN, 0.7, 0.7], [1.0] * 4), ask)
    assert listed(second) == [(0, 0, 1.0), (2, 0, 1.0), (3, 0, 1.0)]  # gains 1.5 and 0.5
    third = again.measure(batch, losses([0.7] * 4, [1.0] * 4), ask)
    assert [place[2] for place in listed(third)] == [-0.5] * 4


def test_probes_must_be_some() -> None:
    with pytest.raises(ConfigurationError, match="size must be >= 1, got 0"):
        ProbeGain(size=0)
