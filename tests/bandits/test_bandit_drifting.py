"""Bandits that forget, against matrices that are built and inverted from scratch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from laser_pl.bandits import Bandit, DiscountedLinUCB, LinUCB, SlidingWindowLinUCB
from laser_pl.errors import ConfigurationError

ALPHA = 0.7


def unit_contexts(count: int, size: int, seed: int = 0) -> Tensor:
    contexts = torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return contexts / contexts.norm(dim=-1, keepdim=True)


class SlowDiscounted:
    """Algorithm 1 of Russac et al. 2019 for one arm: the recurrences as they stand there, lambda 1."""

    def __init__(self, size: int, gamma: float) -> None:
        self.gamma, self.identity = gamma, np.eye(size)
        self.v, self.v_tilde, self.b = np.eye(size), np.eye(size), np.zeros(size)

    def step(self, seen: list[tuple[np.ndarray, float]]) -> None:
        """One observation passes; ``seen`` holds it if it was this arm's."""
        gamma = self.gamma
        self.v = gamma * self.v + (1 - gamma) * self.identity
        self.v_tilde = gamma**2 * self.v_tilde + (1 - gamma**2) * self.identity
        self.b = gamma * self.b
        for context, reward in seen:
            self.v = self.v + np.outer(context, context)
            self.v_tilde = self.v_tilde + np.outer(context, context)
            self.b = self.b + reward * context

    def answer(self, context: np.ndarray) -> tuple[float, float]:
        inverse = np.linalg.inv(self.v)
        return context @ inverse @ self.b, ALPHA * np.sqrt(context @ inverse @ self.v_tilde @ inverse @ context)


class SlowWindow:
    """Section 4 of Cheung et al. 2019 for one arm: sums over the last observations of all arms, lambda 1."""

    def __init__(self, size: int, window: int) -> None:
        self.size, self.window = size, window
        self.history: list[list[tuple[np.ndarray, float]]] = []

    def step(self, seen: list[tuple[np.ndarray, float]]) -> None:
        self.history.append(seen)

    def answer(self, context: np.ndarray) -> tuple[float, float]:
        own = [pair for seen in self.history[-self.window :] for pair in seen]
        v = np.eye(self.size) + sum((np.outer(c, c) for c, _ in own), np.zeros((self.size, self.size)))
        b = sum((r * c for c, r in own), np.zeros(self.size))
        inverse = np.linalg.inv(v)
        return context @ inverse @ b, ALPHA * np.sqrt(context @ inverse @ context)


def assert_equal_to_twins(
    bandit: Bandit, twins: list[SlowDiscounted] | list[SlowWindow], size: int, steps: int
) -> None:
    bandit.start([f"arm {k}" for k in range(len(twins))], size)
    contexts, noise = unit_contexts(steps, size), np.random.default_rng(0)
    for step, context in enumerate(contexts):
        if step % 10 == 0:
            why = bandit.explain(context[None])
            mean, bonus = zip(*(twin.answer(context.numpy()) for twin in twins), strict=True)
            np.testing.assert_allclose(why.mean[0].numpy(), mean, rtol=0, atol=1e-10)
            np.testing.assert_allclose(why.bonus[0].numpy(), bonus, rtol=0, atol=1e-10)
            together = bandit.explain(contexts[:4])
            np.testing.assert_allclose(
                together.bonus[3].numpy(), [twin.answer(contexts[3].numpy())[1] for twin in twins], rtol=0, atol=1e-10
            )
        arm, reward = int(noise.integers(len(twins))), float(noise.normal())
        bandit.update(context[None], torch.tensor([arm]), torch.tensor([reward], dtype=torch.float64))
        for k, twin in enumerate(twins):
            twin.step([(context.numpy(), reward)] if k == arm else [])


@pytest.mark.parametrize("gamma", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("size", [1, 3, 30])
def test_discounted_linucb_equals_the_recurrences(gamma: float, size: int) -> None:
    """Fewer observations than dimensions and more; what weighs less than 1e-12 has been dropped at 0.3 and 0.9."""
    assert_equal_to_twins(DiscountedLinUCB(ALPHA, gamma), [SlowDiscounted(size, gamma) for _ in range(3)], size, 350)


@pytest.mark.parametrize("window", [1, 7, 60, 1000])
@pytest.mark.parametrize("size", [1, 3, 30])
def test_sliding_window_linucb_equals_sums_over_the_window(window: int, size: int) -> None:
    """A window shorter than the dimensions, around them, longer, and longer than all there is."""
    assert_equal_to_twins(SlidingWindowLinUCB(ALPHA, window), [SlowWindow(size, window) for _ in range(3)], size, 250)


@pytest.mark.parametrize("size", [3, 40])
def test_a_window_of_all_is_linucb(size: int) -> None:
    contexts, arms = unit_contexts(60, size), torch.arange(60) % 2
    bandits = [SlidingWindowLinUCB(ALPHA, window=60), LinUCB(ALPHA)]
    for bandit in bandits:
        bandit.start(["a", "b"], size)
        bandit.update(contexts, arms, torch.linspace(-1, 1, 60))
    windowed, plain = (bandit.explain(contexts) for bandit in bandits)
    torch.testing.assert_close(windowed.mean, plain.mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(windowed.bonus, plain.bonus, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("bandit", "kept"), [(DiscountedLinUCB(gamma=0.5), 40), (SlidingWindowLinUCB(window=30), 30)], ids=["D", "SW"]
)
def test_what_is_forgotten_is_as_unknown_as_at_the_start_and_takes_no_room(bandit: Bandit, kept: int) -> None:
    """0.5^39 is above 1e-12 and 0.5^40 below, so 40 observations weigh enough."""
    bandit.start(["a", "b"], 5)
    contexts = unit_contexts(100, 5)
    first = bandit.explain(contexts)
    bandit.update(contexts[:50], torch.zeros(50, dtype=torch.long), torch.ones(50))
    assert (bandit.explain(contexts).bonus[:, 0] < first.bonus[:, 0]).all()
    bandit.update(contexts[50:], torch.ones(50, dtype=torch.long), torch.ones(50))
    later = bandit.explain(contexts)
    torch.testing.assert_close(later.bonus[:, 0], first.bonus[:, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(later.mean[:, 0], first.mean[:, 0], rtol=0, atol=1e-12)
    lengths = [len(model["rewards"]) for model in bandit.state_dict()["models"].values()]
    assert lengths == [0, kept]


@pytest.mark.parametrize("bandit", [DiscountedLinUCB(gamma=0.95), SlidingWindowLinUCB(window=50)], ids=["D", "SW"])
def test_a_change_is_noticed(bandit: Bandit) -> None:
    """Arm 0 pays for 300 steps, then arm 1 does. LinUCB has 300 rewards to unlearn, and these some 20 or 50."""

    def share_of_the_new_best(bandit: Bandit) -> float:
        bandit.start(["a", "b"], 1)
        context, right = torch.ones(1, 1, dtype=torch.float64), 0
        for step in range(400):
            arm = bandit.select(context)
            right += step >= 300 and int(arm) == 1
            bandit.update(context, arm, (arm == (step >= 300)).double())
        return right / 100

    assert share_of_the_new_best(bandit) > 0.6
    assert share_of_the_new_best(LinUCB()) < 0.4


def test_what_is_out_of_range_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"alpha must be >= 0, got -1.*selection.bandit.alpha"):
        DiscountedLinUCB(alpha=-1)
    for gamma in (0.0, 1.0, float("nan")):
        with pytest.raises(
            ConfigurationError, match=rf"gamma must be in \(0, 1\), got {gamma}.*selection.bandit.gamma"
        ):
            DiscountedLinUCB(gamma=gamma)
    with pytest.raises(ConfigurationError, match=r"window must be >= 1, got 0.*selection.bandit.window"):
        SlidingWindowLinUCB(window=0)
