"""What a trained batch says of its judges, on numbers made by hand and against loops."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.batches import PairIndices, Preferences, PromptLosses, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.signals import Gap, Loss, Nll, Observations, Signal, Trusted, share_ordered_rightly
from laser_pl.metrics.matchers import Number

ThroughDisk = Callable[[dict[str, Any]], dict[str, Any]]
Make = Callable[..., RolloutBatch]
NAN = math.nan


def judged(
    make: Make, arms: list[int], scores: list[list[float]], pairs: list[tuple[int, int, int]], **kwargs: Any
) -> RolloutBatch:
    """A batch with preferences."""
    n = len(scores[0])
    batch = make([[[5 + i, 1] for i in range(n)] for _ in arms], **kwargs)
    prompt, chosen, rejected = torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).unbind(-1)
    batch.preferences = Preferences(
        torch.tensor(arms), torch.tensor(scores, dtype=torch.float64), PairIndices(prompt, chosen, rejected)
    )
    return batch


def losses(dpo: list[float], nll: list[float]) -> PromptLosses:
    return PromptLosses(torch.tensor(dpo), torch.tensor(nll), nll_weight=2.0)


def not_asked(rows: list[int]) -> Tensor:
    raise AssertionError(f"asked about {rows}")


def listed(seen: Observations) -> list[tuple[int, int, float]]:
    assert seen.value.dtype == seen.chance.dtype == torch.float64
    assert seen.value.shape == seen.chance.shape
    assert seen.prompt.dtype == seen.arm.dtype == torch.int64
    return list(zip(seen.prompt.tolist(), seen.arm.tolist(), seen.value.tolist(), strict=True))


@pytest.mark.parametrize(("signal", "expected"), [(Loss(), [-2.5, -4.75]), (Nll(), [-1.0, -2.0])])
def test_the_loss_is_about_the_judge_of_each_prompt(rollouts: Make, signal: Signal, expected: list[float]) -> None:
    """The prompt without a pair has no loss and says nothing."""
    batch = judged(rollouts, [2, 0, 1], [[1.0, 0.0]] * 3, [(0, 0, 1), (2, 0, 1)])
    seen = signal.measure(batch, losses([0.5, NAN, 0.75], [1.0, NAN, 2.0]), not_asked)
    assert listed(seen) == [(0, 2, expected[0]), (2, 1, expected[1])]


def test_chance_is_the_mean_over_what_could_have_been_chosen(rollouts: Make) -> None:
    """By hand: responses of 2 and 4 tokens with -1 and -6 nats cost 0.5 and 1.5 a token, on average 1."""
    batch = rollouts([[[3, 1], [4, 4, 4, 1]]])
    batch.reference_logprobs = torch.tensor([[-1.0, -6.0]], dtype=torch.float64)
    pair = torch.tensor([0]), torch.tensor([0]), torch.tensor([1])
    batch.preferences = Preferences(torch.tensor([1]), torch.zeros(1, 2), PairIndices(*pair))
    of_loss = Loss().measure(batch, losses([0.5], [1.25]), not_asked)
    of_nll = Nll().measure(batch, losses([0.5], [1.25]), not_asked)
    assert of_loss.chance.tolist() == pytest.approx([-math.log(2) - 2 * 1.0], abs=1e-10)
    assert of_nll.chance.tolist() == pytest.approx([-1.0], abs=1e-10)


@pytest.mark.parametrize("signal", [Loss(), Nll()], ids=["loss", "nll"])
@pytest.mark.parametrize("seed", range(3))
def test_before_training_judges_at_random_get_what_chance_gives(rollouts: Make, signal: Signal, seed: int) -> None:
    """Averaged over every response that could be chosen, with the losses of a policy that has not moved."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [[[5] * int(torch.randint(0, 6, (), generator=generator)) + [1] for _ in range(4)] for _ in range(3)]
    batch = rollouts(tokens)
    batch.reference_logprobs = -3 * torch.rand(3, 4, generator=generator, dtype=torch.float64)
    totals, chances = [], []
    for chosen in range(4):
        rows = torch.arange(3)
        pairs = PairIndices(rows, torch.full((3,), chosen), torch.full((3,), (chosen + 1) % 4))
        batch.preferences = Preferences(torch.zeros(3, dtype=torch.long), torch.zeros(3, 4), pairs)
        nll = [-float(batch.reference_logprobs[p, chosen]) / len(tokens[p][chosen]) for p in range(3)]
        first = PromptLosses(
            torch.full((3,), math.log(2), dtype=torch.float64), torch.tensor(nll, dtype=torch.float64), nll_weight=0.7
        )
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


def random_steps(make: Make, seed: int) -> list[RolloutBatch]:
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
        assert batch.preferences is not None
        arms, scores = batch.preferences.arms.tolist(), batch.preferences.scores.tolist()
        for arm, row in zip(arms, scores, strict=True):
            known = [score for score in row if score == score]
            deviations[arm] += [score - statistics.fmean(known) for score in known]
        expected = []
        for prompt in range(4):
            own = [
                scores[p][c] - scores[p][r]
                for p, c, r in zip(
                    batch.preferences.pairs.prompt.tolist(),
                    batch.preferences.pairs.chosen.tolist(),
                    batch.preferences.pairs.rejected.tolist(),
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
        assert batch.preferences is not None
        plain = one.measure(batch, losses([0.7] * 4, [1.0] * 4), not_asked)
        batch.preferences.scores.mul_(factor)
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


def trusted_batch(make: Make) -> RolloutBatch:
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
    seen = signal.measure(trusted_batch(rollouts), losses([0.7] * 4, [1.0] * 4), score_all)
    assert asked == [[0, 2]]
    # Prompt 0: response 0 is right. Prompt 2: responses 0 and 2 are. The last arm has no opinion on prompt 2.
    assert listed(seen) == [(0, 0, 1.0), (0, 1, 0.25), (0, 2, 0.0), (2, 0, 0.5), (2, 1, 0.5)]
    assert seen.chance.tolist() == [0.5] * 5


def test_without_a_trusted_prompt_nobody_is_asked(rollouts: Make) -> None:
    batch = trusted_batch(rollouts)
    for seed in range(100):
        signal = Trusted(share=0.1, matcher=Number(), seed=seed)
        if not any(signal.is_trusted(id_) for id_ in ("p0", "p2")):
            break
    assert listed(signal.measure(batch, losses([0.7] * 4, [1.0] * 4), not_asked)) == []


@pytest.mark.parametrize("share", [0.05, 0.125, 0.5, 1.0])
def test_a_share_of_the_prompts_is_trusted(share: float) -> None:
    """Within 4.5 standard errors of 4,000 throws of a coin."""
    count = sum(Trusted(share).is_trusted(f"prompt {i}") for i in range(4000))
    assert abs(count - 4000 * share) <= 4.5 * math.sqrt(4000 * share * (1 - share))


def test_trust_follows_from_seed_and_prompt() -> None:
    ids = [f"prompt {i}" for i in range(200)]
    chosen = {tuple(map(Trusted(0.5, seed=seed).is_trusted, ids)) for seed in (0, 0, 1)}
    assert len(chosen) == 2


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_out_of_range_is_named(share: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"share must be in \(0, 1\], got {share}"):
        Trusted(share)
