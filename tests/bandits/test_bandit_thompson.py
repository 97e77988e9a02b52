"""Thompson sampling against the posterior by explicit matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from laser_pl.bandits import LinUCB, Thompson
from laser_pl.errors import ConfigurationError
from tests.runs import ThroughDisk

ARMS = ["a", "b", "c"]


def contexts_of(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def taught(bandit: Thompson, size: int, rewards: int = 20, seed: int = 0) -> Thompson:
    bandit.start(ARMS, size, seed)
    bandit.update(
        contexts_of(rewards, size), torch.arange(rewards) % 3, torch.linspace(-1, 1, rewards, dtype=torch.float64)
    )
    return bandit


def posterior(size: int, arm: int, mean: float, weight: float, rewards: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Bayesian regression with a level: prior mean (m, 0, ...), prior precision diag(n_0, 1, ...), noise 1."""
    x = np.hstack([np.ones((rewards, 1)), contexts_of(rewards, size).numpy()])[arm::3]
    r = np.linspace(-1, 1, rewards)[arm::3]
    prior, before = np.diag([weight] + [1.0] * size), np.array([mean] + [0.0] * size)
    covariance = np.linalg.inv(prior + x.T @ x)
    return covariance @ (prior @ before + x.T @ r), covariance


@pytest.mark.parametrize("weight", [0.5, 10.0])
@pytest.mark.parametrize("size", [1, 4, 30])
def test_with_a_prior_it_is_bayesian_regression_with_a_level(size: int, weight: float) -> None:
    prior = {"a": 0.8, "c": -0.3}  # and 0 for b
    bandit = taught(Thompson(1.0, prior, weight), size)
    questions = contexts_of(5, size, seed=1)
    asked = np.hstack([np.ones((5, 1)), questions.numpy()])
    why = bandit.explain(questions)
    for k, arm in enumerate(ARMS):
        mean, covariance = posterior(size, k, prior.get(arm, 0.0), weight)
        np.testing.assert_allclose(why.mean[:, k].numpy(), asked @ mean, rtol=0, atol=1e-10)
        width = np.sqrt(np.einsum("md,de,me->m", asked, covariance, asked))
        np.testing.assert_allclose(bandit.models[k].width(questions).numpy(), width, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_without_a_prior_it_believes_what_linucb_believes(size: int) -> None:
    bandit, other, questions = taught(Thompson(), size), LinUCB(alpha=1.0), contexts_of(5, size, seed=1)
    other.start(ARMS, size)
    other.update(contexts_of(20, size), torch.arange(20) % 3, torch.linspace(-1, 1, 20, dtype=torch.float64))
    torch.testing.assert_close(bandit.explain(questions).mean, other.explain(questions).mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(bandit.widths(questions), other.explain(questions).bonus, rtol=0, atol=1e-10)


def test_draws_have_the_posteriors_mean_and_width_and_are_independent() -> None:
    """20,000 draws at one context, asked about at once; within 4.5 standard errors."""
    count, spread = 20_000, 0.5
    bandit, question = taught(Thompson(spread), 3), contexts_of(1, 3, seed=1)
    noise = bandit.explain(question.repeat(count, 1)).bonus / (spread * bandit.widths(question))  # (count, K)
    assert (noise.mean(0).abs() < 4.5 / count**0.5).all()
    assert ((noise.square().mean(0) - 1).abs() < 4.5 * (2 / count) ** 0.5).all()
    neighbours, arms = (noise[1:] * noise[:-1]).mean(0), (noise * noise.roll(1, dims=1)).mean(0)
    assert (neighbours.abs() < 4.5 / (count - 1) ** 0.5).all()
    assert (arms.abs() < 4.5 / count**0.5).all()


def test_what_was_explained_is_what_is_selected_and_the_next_question_is_drawn_anew() -> None:
    bandit, question = taught(Thompson(2.0), 3), contexts_of(1, 3, seed=1)
    answers = set()
    for _ in range(60):
        why = bandit.explain(question)
        assert bandit.explain(question.clone()) is why
        chosen = bandit.select(question)
        assert torch.equal(chosen, (why.mean + why.bonus).argmax(-1))
        answers.add(int(chosen))
    assert answers == {0, 1, 2}


def test_a_draw_is_not_kept_over_what_is_learned_or_loaded() -> None:
    bandit, question = taught(Thompson(), 3), contexts_of(1, 3, seed=1)
    first = bandit.explain(question)
    bandit.update(question, torch.tensor([1]), torch.tensor([1.0]))
    second = bandit.explain(question)
    assert not torch.isclose(second.bonus, first.bonus).any()
    bandit.load_state_dict(bandit.state_dict())
    assert not torch.isclose(bandit.explain(question).bonus, second.bonus).any()


def test_without_spread_it_is_greedy() -> None:
    bandit, questions = taught(Thompson(0.0), 3), contexts_of(30, 3, seed=1)
    assert torch.equal(bandit.select(questions), bandit.explain(questions).mean.argmax(-1))


# -- prior -------------------------------------------------------------------------------------------------------------


def test_a_prior_counts_as_so_many_rewards() -> None:
    """Where the context is nothing there is the level alone: n_0 rewards of m and n of x have the mean of them all."""
    bandit, nothing = Thompson(prior={"a": 0.6}, prior_weight=4.0), torch.zeros(1, 2)
    bandit.start(["a"], 2)
    assert float(bandit.explain(nothing).mean) == pytest.approx(0.6, abs=1e-12)
    for n in range(1, 30):
        bandit.update(nothing, torch.tensor([0]), torch.tensor([-0.2]))
        expected = (4 * 0.6 + n * -0.2) / (4 + n)
        assert float(bandit.explain(nothing).mean) == pytest.approx(expected, abs=1e-8)  # -0.2 came as a float32
        assert float(bandit.widths(nothing)) == pytest.approx((4 + n) ** -0.5, abs=1e-12)


def test_a_wrong_prior_fades_also_where_nothing_was_seen() -> None:
    """All rewards came from one direction; what is expected in the other follows to at least 9/10 of the way.

    With rewards of -1 at (1, 0) the level and the first weight share them by their variances, 1 / n_0 and 1.
    """
    bandit = Thompson(prior={"a": 1.0, "b": 0.0}, prior_weight=0.05)
    bandit.start(["a", "b"], 2)
    one, other = torch.eye(2, dtype=torch.float64)[:, None]
    before = bandit.explain(other).mean[0]
    for _ in range(100):
        bandit.update(one, torch.tensor([0]), torch.tensor([-1.0]))
    after = bandit.explain(other).mean[0]
    assert before.tolist() == [1.0, 0.0]
    assert float(after[0]) < 1 - 0.9 * 2
    assert float(after[1]) == 0.0


def test_a_prior_leads_the_first_choices() -> None:
    bandit = Thompson(0.1, {"a": -0.5, "b": 0.5, "c": 0.0}, prior_weight=100.0)
    bandit.start(ARMS, 2)
    assert bandit.select(0.1 * contexts_of(20, 2)).tolist() == [1] * 20


def test_a_run_that_is_continued_keeps_the_priors_it_began_with(through_disk: ThroughDisk) -> None:
    """Its regression is relative to them; an arm that is new starts with the prior that is configured now."""
    old, new = Thompson(prior={"a": 0.5}, prior_weight=2.0), Thompson(prior={"a": -0.5, "d": 0.25}, prior_weight=8.0)
    question = contexts_of(4, 2)
    old.start(ARMS, 2)
    old.update(question, torch.tensor([0, 1, 0, 2]), torch.ones(4))
    new.start(["d", "a"], 2)
    new.load_state_dict(through_disk(old.state_dict()))
    assert torch.equal(new.explain(question).mean[:, 1], old.explain(question).mean[:, 0])
    assert torch.equal(new.widths(question)[:, 1], old.widths(question)[:, 0])
    assert new.explain(question).mean[:, 0].tolist() == [0.25] * 4


def test_what_is_out_of_range_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"spread must be >= 0, got -0.1.*selection.bandit.spread"):
        Thompson(-0.1)
    for weight in (0.0, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError, match=rf"prior_weight must be > 0 and finite, got {weight}"):
            Thompson(prior_weight=weight)
    with pytest.raises(ConfigurationError, match=r"prior names 'd'; the reward models are a, b, c"):
        Thompson(prior={"a": 1.0, "d": 0.0}).check(ARMS)
    with pytest.raises(ConfigurationError, match=r"selection.bandit.prior.a is inf. Give a finite number"):
        Thompson(prior={"a": float("inf")}).check(ARMS)
