"""Exp3 against its figure, with weights instead of their logarithms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from laser_pl.bandits import Exp3
from laser_pl.errors import ConfigurationError
from tests.runs import ThroughDisk

NOWHERE = torch.ones(1, 1)


def started(gamma: float, arms: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Exp3:
    bandit = Exp3(gamma, low, high)
    bandit.start([f"arm {k}" for k in range(arms)], 1, seed)
    return bandit


class SlowExp3:
    """Figure 1 of Auer et al. 2002 (The nonstochastic multiarmed bandit problem)."""

    def __init__(self, gamma: float, arms: int) -> None:
        self.gamma, self.w = gamma, np.ones(arms)

    @property
    def p(self) -> np.ndarray:
        return (1 - self.gamma) * self.w / self.w.sum() + self.gamma / len(self.w)

    def learn(self, arm: int, x: float) -> None:
        estimate = np.zeros(len(self.w))
        estimate[arm] = x / self.p[arm]
        self.w = self.w * np.exp(self.gamma * estimate / len(self.w))


@pytest.mark.parametrize("gamma", [0.05, 0.5, 1.0])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
def test_equals_the_figure(gamma: float, low: float, high: float) -> None:
    """One context for all, so every arm's reward at it is told in the long run, but never more than was chosen."""
    bandit, slow = started(gamma, 4, low, high), SlowExp3(gamma, 4)
    noise = np.random.default_rng(0)
    for _ in range(200):
        np.testing.assert_allclose(bandit.explain(NOWHERE).mean[0].numpy(), slow.p, rtol=0, atol=1e-12)
        arm, x = bandit.select(NOWHERE), float(noise.random())
        bandit.update(NOWHERE, arm, torch.tensor([low + (high - low) * x], dtype=torch.float64))
        slow.learn(int(arm), x)


def test_rewards_outside_the_range_count_as_its_ends() -> None:
    far, near = started(0.3, 2, -1, 1), started(0.3, 2, -1, 1)
    for bandit, rewards in ((far, [7.0, -5.0]), (near, [1.0, -1.0])):
        for arm, reward in enumerate(rewards):
            bandit.update(NOWHERE, torch.tensor([arm]), torch.tensor([reward]))
    assert torch.equal(far.probabilities, near.probabilities)
    assert far.probabilities[0] > far.probabilities[1]


def test_rewards_of_all_arms_at_a_context_count_as_they_are() -> None:
    """Two contexts of which all is known, after one choice at each: log w_k = gamma / K times the sum of rewards."""
    bandit = started(0.3, 3)
    contexts = torch.tensor([[1.0], [2.0]])
    bandit.select(contexts)
    rewards = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.4, 0.0]], dtype=torch.float64)
    bandit.update(contexts.repeat_interleave(3, 0), torch.arange(3).repeat(2), rewards.flatten())
    weights = torch.exp(0.1 * rewards.sum(0))
    torch.testing.assert_close(bandit.probabilities, 0.7 * weights / weights.sum() + 0.1, rtol=0, atol=1e-12)


def test_choices_at_equal_contexts_are_not_taken_for_a_check_of_all_arms() -> None:
    """Two decisions at one context chose both arms. Each reward counts by its probability, as if contexts differed."""
    equal, different = started(0.5, 2), started(0.5, 2)
    rewards = torch.tensor([1.0, 0.25], dtype=torch.float64)
    for bandit in (equal, different):
        bandit.log_weights = torch.tensor([0.0, -1.0], dtype=torch.float64)
    for bandit, contexts in ((equal, torch.ones(2, 1)), (different, torch.tensor([[1.0], [2.0]]))):
        bandit.select(contexts)
        bandit.update(contexts, torch.tensor([0, 1]), rewards)
    torch.testing.assert_close(equal.probabilities, different.probabilities, rtol=0, atol=1e-12)


def test_a_check_of_all_arms_after_two_choices_at_one_context_is_taken_for_one() -> None:
    bandit, rewards = started(0.3, 3), torch.tensor([0.9, 0.1, 0.5] * 2, dtype=torch.float64)
    bandit.select(torch.ones(2, 1))
    bandit.update(torch.ones(6, 1), torch.arange(3).repeat(2), rewards)
    weights = torch.exp(0.1 * 2 * rewards[:3])
    torch.testing.assert_close(bandit.probabilities, 0.7 * weights / weights.sum() + 0.1, rtol=0, atol=1e-12)


def test_that_an_arm_told_nothing_apart_beside_a_poll_is_no_round() -> None:
    """Nobody else could be observed there: were it one, the arm would win all rounds that are not polled."""
    bandit = started(0.3, 3)
    arms, nobody = torch.tensor([1]), torch.zeros(1, 3, dtype=torch.bool)
    bandit.learn(NOWHERE, arms, torch.tensor([0.5], dtype=torch.float64), nobody)
    assert bandit.probabilities.tolist() == pytest.approx([1 / 3] * 3, abs=1e-12)


def steps_of(bandit: Exp3, arms: list[int], gains: np.ndarray, rivals: list[list[bool]]) -> np.ndarray:
    """What an observation of these arms adds to the logarithms of the weights, as a gain estimate."""
    before = bandit.log_weights.clone()
    bandit.learn(torch.ones(len(arms), 1), torch.tensor(arms), torch.tensor(gains[arms]), torch.tensor(rivals))
    moved = bandit.log_weights - before
    bandit.log_weights = before
    silent = next(
        k for k in range(len(gains)) if k not in arms
    )  # the largest is made 0; an arm unseen shows by how much
    return ((moved - moved[silent]) * len(gains) / bandit.gamma).numpy()


@pytest.mark.parametrize("aside", [[], [1], [1, 2]])
def test_estimates_are_unbiased_whoever_is_aside_or_mute(aside: list[int]) -> None:
    """The exact expectation over who is chosen: the gain of each arm that can be observed, and 0 of the others.

    Arm 4 is never observed. By choice an arm's rivals are those that are not aside; in a poll it has none.
    """
    bandit, gains = started(0.3, 5), np.array([0.9, 0.2, 0.6, 0.4, 0.7])
    bandit.log_weights = torch.tensor([0.0, -1.0, -0.3, -2.0, -0.5], dtype=torch.float64)
    may = [k not in aside for k in range(4)] + [False]
    p = bandit.probabilities.numpy() * may
    expected = np.where(may, gains, 0.0)
    by_choice = sum(p[k] / p.sum() * steps_of(bandit, [k], gains, [may]) for k in range(5) if may[k])
    np.testing.assert_allclose(by_choice, expected, rtol=0, atol=1e-12)
    polled = [k for k in range(5) if may[k]]
    alone = np.eye(5, dtype=bool)[polled].tolist()
    np.testing.assert_allclose(steps_of(bandit, polled, gains, alone), expected, rtol=0, atol=1e-12)


def test_an_asking_after_a_tie_counts_as_a_round_of_its_own() -> None:
    """Given that arm 0 tied, the expectation over who is asked next is every other's gain."""
    bandit, gains = started(0.3, 4), np.array([0.5, 0.2, 0.6, 0.4])
    bandit.log_weights = torch.tensor([0.0, -1.0, -0.3, -2.0], dtype=torch.float64)
    left = [False, True, True, True]
    p = bandit.probabilities.numpy() * left
    found = sum(p[k] / p.sum() * steps_of(bandit, [k], gains, [left]) for k in (1, 2, 3))
    np.testing.assert_allclose(found, [0.0, 0.2, 0.6, 0.4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("seen", [[0, 1], [0, 2], [0]])
def test_a_poll_that_not_all_answered_settles_at_the_best(seen: list[int]) -> None:
    """Arms of gains .65, .35, .35, 3,000 polls; the mute one's weight stays, the seen ones' follow their gains."""
    bandit, gains = started(0.1, 3), torch.tensor([0.65, 0.35, 0.35], dtype=torch.float64)
    alone = torch.eye(3, dtype=torch.bool)[seen]
    for _ in range(3000):
        bandit.select(NOWHERE)
        bandit.learn(NOWHERE.expand(len(seen), -1), torch.tensor(seen), gains[seen], alone)
    assert float(bandit.probabilities[0]) > 0.93 - 1e-2
    guessing = started(0.1, 3)
    for _ in range(300):
        guessing.select(NOWHERE)
        if len(seen) > 1:
            guessing.update(NOWHERE.expand(len(seen), -1), torch.tensor(seen), gains[seen])
    if len(seen) > 1:  # one observation after one choice may be either; two may not
        weights = torch.zeros(3, dtype=torch.float64).index_add(0, torch.tensor(seen), 0.1 / 3 * 300 * gains[seen])
        expected = 0.9 * weights.softmax(-1) + 0.1 / 3
        torch.testing.assert_close(guessing.probabilities, expected, rtol=0, atol=1e-9)


def test_rewards_that_come_together_are_weighed_by_the_probabilities_at_their_choice() -> None:
    """Four contexts at once; log w_k = gamma / K times the sum of x / p_k with the p before all four."""
    bandit, arms = started(0.4, 2), torch.tensor([0, 0, 1, 0])
    bandit.log_weights = torch.tensor([0.0, -0.7], dtype=torch.float64)
    p, rewards = bandit.probabilities, torch.tensor([0.5, 1.0, 0.3, 0.2], dtype=torch.float64)
    bandit.update(torch.arange(4.0)[:, None], arms, rewards)
    estimates = torch.stack([rewards[arms == k].sum() / p[k] for k in range(2)])
    weights = torch.exp(torch.tensor([0.0, -0.7], dtype=torch.float64) + 0.2 * estimates)
    torch.testing.assert_close(bandit.probabilities, 0.6 * weights / weights.sum() + 0.2, rtol=0, atol=1e-12)


def frequencies(chosen: Tensor, arms: int) -> Tensor:
    return torch.bincount(chosen, minlength=arms).double() / len(chosen)


def test_draws_follow_the_probabilities_and_so_do_those_among_the_rest() -> None:
    """20,000 each, within 4.5 standard errors."""
    bandit, count = started(0.2, 3), 20_000
    bandit.log_weights = torch.tensor([0.0, -1.0, -2.0], dtype=torch.float64)
    p, contexts = bandit.probabilities, torch.ones(count, 1)
    error = 4.5 * 0.5 / count**0.5
    assert ((frequencies(bandit.select(contexts), 3) - p).abs() < error).all()
    left = torch.tensor([False, True, True])
    rest = frequencies(bandit.next_best(contexts, left.expand(count, -1)), 3)
    assert rest[0] == 0
    assert ((rest - p * left / p[left].sum()).abs() < error).all()


def test_weights_do_not_overflow() -> None:
    """Without logarithms the weight would be exp(20,000)."""
    bandit = started(1.0, 2)
    bandit.update(torch.arange(40_000.0)[:, None], torch.zeros(40_000, dtype=torch.long), torch.ones(40_000))
    assert bandit.log_weights.isfinite().all()
    assert float(bandit.log_weights.softmax(-1)[0]) == 1.0


def test_the_others_keep_their_ratios_when_the_best_arm_is_gone_and_a_new_one_starts_with_the_best_left(
    through_disk: ThroughDisk,
) -> None:
    old, new = started(0.1, 3), Exp3(0.1)
    old.log_weights = torch.tensor([0.0, -40.0, -41.0], dtype=torch.float64)
    new.start(["fresh", "arm 2", "arm 1"], 1)
    new.load_state_dict(through_disk(old.state_dict()))
    expected = torch.tensor([1.0, np.exp(-1.0), 1.0], dtype=torch.float64)
    torch.testing.assert_close(new.log_weights.softmax(-1), expected / expected.sum(), rtol=0, atol=1e-12)


def test_what_is_out_of_range_is_named() -> None:
    for gamma in (0.0, 1.5, float("nan")):
        with pytest.raises(
            ConfigurationError, match=rf"gamma must be in \(0, 1\], got {gamma}.*selection.bandit.gamma"
        ):
            Exp3(gamma)
    with pytest.raises(ConfigurationError, match=r"low must be below high, got 1.0 and 1.0.*selection.bandit.low"):
        Exp3(low=1.0)
