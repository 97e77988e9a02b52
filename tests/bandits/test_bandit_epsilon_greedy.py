"""Epsilon-greedy: what LinUCB expects, and how often it does otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from laser_pl.bandits import EpsilonGreedy, LinUCB
from laser_pl.errors import ConfigurationError


def contexts_of(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def taught(epsilon: float) -> EpsilonGreedy:
    bandit = EpsilonGreedy(epsilon)
    bandit.start(["a", "b", "c", "d"], 3)
    bandit.update(contexts_of(40), torch.arange(40) % 4, torch.linspace(-1, 1, 40))
    return bandit


def test_it_expects_what_linucb_expects() -> None:
    bandit, other, questions = taught(0.3), LinUCB(), contexts_of(9, seed=1)
    other.start(["a", "b", "c", "d"], 3)
    other.update(contexts_of(40), torch.arange(40) % 4, torch.linspace(-1, 1, 40))
    assert torch.equal(bandit.explain(questions).mean, other.explain(questions).mean)


def test_without_epsilon_it_is_greedy() -> None:
    bandit, questions = taught(0.0), contexts_of(50, seed=1)
    assert torch.equal(bandit.select(questions), bandit.explain(questions).mean.argmax(-1))


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_each_arm_that_is_not_the_best_gets_its_share_of_epsilon(epsilon: float) -> None:
    """epsilon / 4 of 20,000 choices at one context, within 4.5 standard errors."""
    bandit, count = taught(epsilon), 20_000
    question = contexts_of(1, seed=1)
    chosen = torch.bincount(bandit.select(question.repeat(count, 1)), minlength=4).double() / count
    expected = torch.full((4,), epsilon / 4, dtype=torch.float64)
    expected[bandit.explain(question).mean.argmax()] += 1 - epsilon
    assert ((chosen - expected).abs() < 4.5 * (expected * (1 - expected) / count).sqrt()).all()


def test_an_epsilon_out_of_range_is_named() -> None:
    for epsilon in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigurationError, match=rf"epsilon must be in \[0, 1\], got {epsilon}.*selection.bandit"):
            EpsilonGreedy(epsilon)
