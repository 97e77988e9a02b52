"""Rewards from values, against histories that are kept whole."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.errors import ConfigurationError
from laser_pl.feedback.normalizers import (
    ArmZScore,
    ContextBaseline,
    Moments,
    PooledQuantiles,
    Raw,
    RewardNormalizer,
    RunningMean,
)
from tests.runs import ThroughDisk

SCALES = [Raw, PooledQuantiles, RunningMean, ArmZScore, ContextBaseline]
ARMS = ["a", "b", "c"]
SIZES = (0, 1, 3, 0, 2, 5, 1, 4)


def stream(size: int = 3, seed: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Contexts, values that depend on them, and what chance would give, in steps of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    steps = []
    for count in SIZES:
        contexts = torch.randn(count, size, generator=generator, dtype=torch.float64)
        noise, chance = torch.randn(2, count, generator=generator, dtype=torch.float64)
        steps.append((contexts, 4 * contexts[:, 0] - 2 + chance + noise, chance))
    return steps


def arms_of(values: Tensor) -> Tensor:
    """Arms in turn."""
    return torch.arange(len(values)) % len(ARMS)


def started(normalizer: RewardNormalizer) -> RewardNormalizer:
    normalizer.start(ARMS)
    return normalizer


def clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.8), (0.0, 1.0), (0.45, 0.6)])
def test_pooled_quantiles_equal_numpy(low: float, high: float) -> None:
    normalizer, history = PooledQuantiles(low, high), np.zeros(0)
    for contexts, values, chance in stream():
        history = np.concatenate([history, values.numpy()])
        found = normalizer.rewards(contexts, arms_of(values), values, chance)
        if len(history) > 1:
            q_low, q_high = np.quantile(history, low), np.quantile(history, high)
            expected = np.clip((values.numpy() - q_low) / (q_high - q_low), 0, 1)
            np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


def test_pooled_quantiles_by_hand() -> None:
    """Of 0, 1, 2, 3, 4, 5 the quantiles are 1 and 4."""
    found = PooledQuantiles().rewards(
        torch.zeros(6, 1), torch.zeros(6).long(), torch.arange(6, dtype=torch.float64), torch.zeros(6)
    )
    assert found.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1], abs=1e-12)


@pytest.mark.parametrize("values", [[-0.69], [-0.69] * 3])
def test_equal_values_are_worth_one_half(values: list[float]) -> None:
    nothing = torch.zeros(len(values))
    found = PooledQuantiles().rewards(
        nothing[:, None], nothing.long(), torch.tensor(values, dtype=torch.float64), nothing
    )
    assert found.tolist() == [0.5] * len(values)


def test_where_the_quantiles_meet_the_published_rule_is_taken_at_its_limit() -> None:
    """Eight of ten values are 0: those two quantiles are 0, whatever lies above and below."""
    values = torch.tensor([0.0] * 8 + [-3.0, 1e-9], dtype=torch.float64)
    nothing = torch.zeros(10)
    found = PooledQuantiles().rewards(nothing[:, None], nothing.long(), values, nothing).tolist()
    assert found == [0.5] * 8 + [0.0, 1.0]
    assert found[8:] == np.clip(values.numpy()[8:] / 1e-12, 0, 1).tolist()  # quantiles that are all but one


def test_pooled_quantiles_forget_what_is_older_than_their_bound(
    monkeypatch: pytest.MonkeyPatch, through_disk: ThroughDisk
) -> None:
    """By numpy over the last seven values, taken up from a state that does not grow."""
    monkeypatch.setattr("laser_pl.feedback.normalizers.HISTORY", 7)
    normalizer, history = PooledQuantiles(), np.zeros(0)
    for contexts, values, chance in stream(seed=3) * 2:
        history = np.concatenate([history, values.numpy()])[-7:]
        found = normalizer.rewards(contexts, arms_of(values), values, chance)
        if len(history) > 1 and len(values):
            low, high = np.quantile(history, 0.2), np.quantile(history, 0.8)
            expected = np.clip((values.numpy() - low) / (high - low), 0, 1)
            np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)
        state = through_disk(normalizer.state_dict())
        assert state["history"].numel() == len(history)
        normalizer = PooledQuantiles()
        normalizer.load_state_dict(state)


def test_running_mean_equals_the_statistics_of_the_whole_history() -> None:
    normalizer, history = RunningMean(), []
    for contexts, values, chance in stream():
        history += values.tolist()
        found = normalizer.rewards(contexts, arms_of(values), values, chance)
        spread = (statistics.pstdev(history) if history else 0.0) or 1.0
        expected = [clip((value - statistics.fmean(history)) / spread, -2, 2) / 2 for value in values.tolist()]
        assert found.tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("penalty", [1.0, 0.1])
@pytest.mark.parametrize("size", [1, 3, 40], ids="d = {}".format)
def test_context_baseline_equals_an_explicit_ridge_regression(size: int, penalty: float) -> None:
    """Sizes for which the regression ends in its primal and in its dual form."""
    normalizer = ContextBaseline(penalty)
    contexts_seen, excess_seen, start = np.zeros((0, size)), np.zeros(0), None
    errors_seen: list[float] = []
    for contexts, values, chance in stream(size):
        inverse = np.linalg.inv(penalty * np.eye(size) + contexts_seen.T @ contexts_seen)
        theta = inverse @ contexts_seen.T @ excess_seen
        excess = values.numpy() - chance.numpy()
        if start is None and len(excess):
            start = statistics.fmean(excess.tolist())
        excess = excess - (start or 0.0)
        errors = [
            (x - context @ theta) / math.sqrt(1 + context @ inverse @ context)
            for context, x in zip(contexts.numpy(), excess, strict=True)
        ]
        errors_seen += errors
        spread = math.sqrt(math.fsum(error**2 for error in errors_seen) / max(len(errors_seen), 1)) or 1.0
        expected = [clip(error / spread, -2, 2) / 2 for error in errors]
        assert normalizer.rewards(contexts, arms_of(values), values, chance).tolist() == pytest.approx(
            expected, abs=1e-10
        )
        contexts_seen = np.concatenate([contexts_seen, contexts.numpy()])
        excess_seen = np.concatenate([excess_seen, excess])


def test_context_baseline_starts_at_chance() -> None:
    """The level of the signal rewards nobody, and by hand: errors 1, 0, -1 with a root mean square of sqrt(2 / 3)."""
    chance = torch.tensor([100.0, 50.0, 0.0], dtype=torch.float64)
    excess = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    found = ContextBaseline().rewards(torch.ones(3, 2), torch.arange(3), chance + excess, chance)
    assert found.tolist() == pytest.approx([0.5 * 1.5**0.5, 0.0, -0.5 * 1.5**0.5], abs=1e-10)


def test_context_baseline_takes_out_what_the_context_explains() -> None:
    """Two categories whose levels differ by 10; in both, one arm's values lie 1 above the other's."""
    normalizer = ContextBaseline()
    rewards: dict[int, list[float]] = {0: [], 1: []}
    for step in range(400):
        category, arm = step % 2, (step // 2) % 2
        context = torch.eye(2, dtype=torch.float64)[category : category + 1]
        value = torch.tensor([10.0 * category + arm], dtype=torch.float64)
        rewards[arm].append(float(normalizer.rewards(context, torch.tensor([arm]), value, torch.zeros(1))))
    assert max(rewards[0][100:]) < 0 < min(rewards[1][100:])


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_arm_z_scores_equal_a_loop_for_each_arm(decay: float) -> None:
    normalizer = started(ArmZScore(decay))
    mean: dict[int, float] = {}
    square: dict[int, float] = {}  # moving mean of squared distances from the mean at the time
    for contexts, values, chance in stream():
        arms, expected = arms_of(values).tolist(), []
        for arm, value in zip(arms, values.tolist(), strict=True):
            before, spread = mean.get(arm, value), math.sqrt(square.get(arm, 0.0))
            expected.append(clip((value - before) / spread, -2, 2) / 2 if spread else 0.0)
            mean[arm] = decay * before + (1 - decay) * value
            square[arm] = decay * square.get(arm, 0.0) + (1 - decay) * (value - before) ** 2
        assert normalizer.rewards(contexts, arms_of(values), values, chance).tolist() == pytest.approx(
            expected, abs=1e-10
        )


def test_an_arms_own_mean_is_worth_nothing() -> None:
    """Two arms, one always better by 10: both are rewarded alike, which is why the scale hides who is better."""
    normalizer, found = ArmZScore(), {0: [], 1: []}
    normalizer.start(["a", "b"])
    generator = torch.Generator().manual_seed(0)
    for noise in torch.randn(200, generator=generator, dtype=torch.float64):
        values = torch.stack([noise, noise + 10])
        rewards = normalizer.rewards(torch.zeros(2, 1), torch.tensor([0, 1]), values, torch.zeros(2))
        for arm in (0, 1):
            found[arm].append(float(rewards[arm]))
    assert found[0] == pytest.approx(found[1], abs=1e-8)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_a_decay_out_of_range_is_named(decay: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"decay must be in \(0, 1\), got {decay}"):
        ArmZScore(decay)


@pytest.mark.parametrize("make", SCALES)
def test_a_saved_scale_goes_on_bit_by_bit(through_disk: ThroughDisk, make: type[RewardNormalizer]) -> None:
    steps = stream()
    for cut in range(len(steps)):
        one, two = started(make()), started(make())
        for contexts, values, chance in steps[:cut]:
            one.rewards(contexts, arms_of(values), values, chance)
        two.load_state_dict(through_disk(one.state_dict()))
        for contexts, values, chance in steps[cut:]:
            assert torch.equal(
                one.rewards(contexts, arms_of(values), values, chance),
                two.rewards(contexts, arms_of(values), values, chance),
            )


@pytest.mark.parametrize("make", SCALES)
def test_rewards_are_float64_and_as_many_as_values(make: type[RewardNormalizer]) -> None:
    normalizer = started(make())
    for contexts, values, chance in stream():
        found = normalizer.rewards(contexts.float(), arms_of(values), values.float(), chance.float())
        assert found.dtype == torch.float64
        assert found.shape == values.shape
        assert found.isfinite().all()


@pytest.mark.parametrize("make", [PooledQuantiles, RunningMean, ContextBaseline])
@given(st.floats(0.1, 100), st.floats(-1000, 1000))
def test_neither_unit_nor_level_of_the_values_matters(make: type[RewardNormalizer], unit: float, level: float) -> None:
    one, two = started(make()), started(make())
    for contexts, values, chance in stream():
        torch.testing.assert_close(
            two.rewards(contexts, arms_of(unit * values + level), unit * values + level, unit * chance + level),
            one.rewards(contexts, arms_of(values), values, chance),
            rtol=0,
            atol=1e-8,
        )


def test_what_is_said_of_an_unknown_context_counts_less() -> None:
    """By hand, with penalty 1/8. Twice nothing beyond chance; then the same error of 3 in two contexts.

    The first context was seen twice, so its squared width is 1 / (2 + 1/8) = 8/17, and nobody was ever in the second,
    whose squared width is 8. The standardised errors are 3 / sqrt(25/17) and 3 / sqrt(9) = 1.
    """
    known, unknown = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    normalizer = ContextBaseline(penalty=1 / 8)
    chance = torch.zeros(2, dtype=torch.float64)
    normalizer.rewards(known.expand(2, 2), arms_of(chance), chance, chance)
    found = normalizer.rewards(torch.cat([known, unknown]), arms_of(chance), chance + 3, chance)
    first, second = 3 / math.sqrt(25 / 17), 1.0
    spread = math.sqrt((first**2 + second**2) / 4)
    assert found.tolist() == pytest.approx([min(first / spread, 2) / 2, second / spread / 2], abs=1e-10)


@pytest.mark.parametrize("penalty", [0.0, -1.0])
def test_a_penalty_out_of_range_is_named(penalty: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"penalty must be > 0, got {penalty}"):
        ContextBaseline(penalty)


def test_raw_gives_the_values() -> None:
    values = torch.tensor([3.5, -70.0])
    assert Raw().rewards(torch.zeros(2, 1), arms_of(values), values, torch.ones(2)).tolist() == [3.5, -70.0]


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1))
def test_moments_equal_the_statistics(values: list[float]) -> None:
    moments = Moments()
    moments.observe(values)
    size = max(map(abs, values))
    assert moments.mean == pytest.approx(statistics.fmean(values), abs=1e-10 * (1 + size))
    square = math.sqrt(math.fsum(value**2 for value in values) / len(values))
    assert moments.root_mean_square == pytest.approx(square or 1.0, rel=1e-9)
    if len(set(values)) > 1 and statistics.pstdev(values) > max(1e-6 * size, 1e-100):
        assert moments.deviation == pytest.approx(statistics.pstdev(values), rel=1e-6)


def test_moments_that_saw_nothing_or_no_spread_divide_by_one() -> None:
    moments = Moments()
    assert (moments.deviation, moments.root_mean_square) == (1.0, 1.0)
    moments.observe([3.0, 3.0])
    assert (moments.mean, moments.deviation, moments.root_mean_square) == (3.0, 1.0, 3.0)
