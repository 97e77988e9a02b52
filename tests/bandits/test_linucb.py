"""LinUCB against an explicit inverse per arm, and what holds of any bandit that compares arms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.bandits import LinUCB
from laser_pl.bandits.base import argmax_with_random_ties
from laser_pl.errors import ConfigurationError
from tests.runs import ThroughDisk


def started(arms: int, size: int, alpha: float = 0.5, seed: int = 0) -> LinUCB:
    bandit = LinUCB(alpha)
    bandit.start([f"arm {k}" for k in range(arms)], size, seed)
    return bandit


def unit_contexts(count: int, size: int, seed: int = 0) -> Tensor:
    contexts = torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return contexts / contexts.norm(dim=-1, keepdim=True)


class SlowArm:
    """A and b of Algorithm 1 as they stand there, and an explicit inverse."""

    def __init__(self, size: int) -> None:
        self.a, self.b = np.eye(size), np.zeros(size)

    def bound(self, context: np.ndarray, alpha: float) -> float:
        inverse = np.linalg.inv(self.a)
        return float(context @ inverse @ self.b + alpha * np.sqrt(context @ inverse @ context))


@pytest.mark.parametrize(
    ("arms", "size", "every"),
    [(1, 3, 1), (2, 1, 1), (4, 8, 1), (3, 30, 1), (5, 130, 20), (2, 600, 50)],
    ids=lambda value: str(value),
)
def test_equals_the_explicit_inverse_over_500_steps(arms: int, size: int, every: int) -> None:
    """Sizes below, around and above the number of updates of an arm; wide ones are compared at every so many steps."""
    alpha, steps = 0.7, 500
    bandit, slow = started(arms, size, alpha), [SlowArm(size) for _ in range(arms)]
    contexts = unit_contexts(steps, size)
    noise = np.random.default_rng(0)
    for step, context in enumerate(contexts):
        if step % every == 0:
            expected = [arm.bound(context.numpy(), alpha) for arm in slow]
            why = bandit.explain(context[None])
            np.testing.assert_allclose((why.mean + why.bonus)[0].numpy(), expected, rtol=0, atol=1e-10)
        chosen = bandit.select(context[None])
        if step % every == 0:
            assert max(expected) - expected[int(chosen)] <= 2e-10
        reward = float(np.cos(3 * float(chosen)) * float(context[0]) + noise.normal())
        bandit.update(context[None], chosen, torch.tensor([reward], dtype=torch.float64))
        slow[int(chosen)].a += np.outer(context.numpy(), context.numpy())
        slow[int(chosen)].b += reward * context.numpy()


def test_bounds_do_not_drift_in_twenty_thousand_updates() -> None:
    """Against A and b summed over all of them and inverted once."""
    arms, size, steps = 3, 5, 20_000
    bandit, contexts = started(arms, size), unit_contexts(steps, size)
    rewards = torch.randn(steps, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bandit.update(contexts, torch.arange(steps) % arms, rewards)
    questions = unit_contexts(20, size, seed=2)
    why = bandit.explain(questions)
    for k in range(arms):
        slow, own = SlowArm(size), contexts[k::arms].numpy()
        slow.a, slow.b = slow.a + own.T @ own, own.T @ rewards[k::arms].numpy()
        expected = [slow.bound(question, 0.5) for question in questions.numpy()]
        np.testing.assert_allclose((why.mean + why.bonus)[:, k].numpy(), expected, rtol=0, atol=1e-8)


def test_several_rewards_at_once_are_learned_one_after_the_other() -> None:
    contexts, arms, rewards = unit_contexts(40, 6), torch.arange(40) % 3, torch.linspace(-1, 1, 40)
    together, in_turn = started(3, 6), started(3, 6)
    together.update(contexts, arms, rewards)
    for i in range(40):
        in_turn.update(contexts[i : i + 1], arms[i : i + 1], rewards[i : i + 1])
    assert torch.equal(together.explain(contexts).mean, in_turn.explain(contexts).mean)


@pytest.mark.parametrize("size", [4, 60], ids=["primal", "dual"])
@pytest.mark.parametrize("several", [1, 5])
def test_an_answer_is_remembered_only_while_it_is_right(through_disk: ThroughDisk, size: int, several: int) -> None:
    """Asked about the same again; not after something was learned or loaded, nor when the tensor was overwritten."""
    bandit, empty, contexts = started(3, size), started(3, size), unit_contexts(40, size)
    bandit.update(contexts, torch.arange(40) % 3, torch.linspace(-1, 1, 40))
    question = contexts[:several].clone()
    first = bandit.explain(question)
    assert bandit.explain(question.clone()) is first
    question += 0.5
    assert not torch.isclose(bandit.explain(question).bonus, first.bonus).all()
    before = bandit.explain(question)
    bandit.update(question[:1], torch.tensor([1]), torch.tensor([1.0]))
    assert (bandit.explain(question).bonus[:, 1] < before.bonus[:, 1]).all()
    bandit.load_state_dict(through_disk(empty.state_dict()))
    assert torch.equal(bandit.explain(question).bonus, empty.explain(question).bonus)


def test_only_the_arm_that_was_rewarded_changes() -> None:
    bandit, contexts = started(3, 4), unit_contexts(5, 4)
    before = bandit.explain(contexts)
    bandit.update(contexts[:1], torch.tensor([1]), torch.tensor([2.0]))
    after = bandit.explain(contexts)
    for name in ("mean", "bonus"):
        changed = (getattr(after, name) != getattr(before, name)).any(dim=0)
        assert changed.tolist() == [False, True, False]


@settings(max_examples=30)
@given(st.integers(2, 5), st.integers(1, 9), st.integers(0, 999), st.data())
def test_permuting_arms_permutes_choices(arms: int, size: int, seed: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(arms)))  # new arm k is old arm order[k]
    place = torch.tensor([order.index(k) for k in range(arms)])
    one, two = started(arms, size), started(arms, size, seed=1)
    contexts, questions = unit_contexts(30, size, seed), unit_contexts(20, size, seed + 1)
    chosen = torch.arange(30) % arms
    rewards = torch.randn(30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    one.update(contexts, chosen, rewards)
    two.update(contexts, place[chosen], rewards)
    assert torch.equal(two.explain(questions).mean[:, place], one.explain(questions).mean)
    assert torch.equal(two.select(questions), place[one.select(questions)])


@pytest.mark.parametrize("size", [4, 60], ids=["primal", "dual"])
def test_a_saved_bandit_goes_on_bit_by_bit(through_disk: ThroughDisk, size: int) -> None:
    """Ties included: at first all arms are equal, and the generator decides."""
    contexts = unit_contexts(80, size)
    one = started(3, size, seed=5)

    def step(bandit: LinUCB, i: int) -> Tensor:
        chosen = bandit.select(contexts[i : i + 1])
        bandit.update(contexts[i : i + 1], chosen, chosen.double() - contexts[i, :1])
        return chosen

    for i in range(30):
        step(one, i)
    two = started(3, size, seed=77)
    two.load_state_dict(through_disk(one.state_dict()))
    for i in range(30, 80):
        assert torch.equal(step(one, i), step(two, i))
        assert torch.equal(one.explain(contexts).bonus, two.explain(contexts).bonus)
    flat = unit_contexts(50, size) * 0  # all arms are tied there
    assert torch.equal(one.select(flat), two.select(flat))


def test_alpha_is_taken_from_the_configuration_not_from_the_state(through_disk: ThroughDisk) -> None:
    old, new = started(2, 3, alpha=0.1), started(2, 3, alpha=2.0)
    old.update(unit_contexts(5, 3), torch.tensor([0, 1, 0, 1, 0]), torch.ones(5))
    new.load_state_dict(through_disk(old.state_dict()))
    question = unit_contexts(1, 3, seed=1)
    torch.testing.assert_close(new.explain(question).bonus, 20 * old.explain(question).bonus)


def test_arms_are_found_again_by_name(through_disk: ThroughDisk) -> None:
    """One was retired, one is new, and the order is another."""
    old = LinUCB()
    old.start(["a", "b", "c"], 4)
    contexts = unit_contexts(9, 4)
    old.update(contexts, torch.arange(9) % 3, torch.linspace(-1, 1, 9))
    new = LinUCB()
    new.start(["c", "fresh", "a"], 4)
    new.load_state_dict(through_disk(old.state_dict()))
    assert torch.equal(new.explain(contexts).mean[:, [2, 0]], old.explain(contexts).mean[:, [0, 2]])
    assert new.explain(contexts).mean[:, 1].tolist() == [0.0] * 9


def test_the_only_arm_is_always_chosen() -> None:
    bandit, contexts = started(1, 4), unit_contexts(30, 4)
    for i in range(30):
        assert bandit.select(contexts[i : i + 1]).tolist() == [0]
        bandit.update(contexts[i : i + 1], torch.tensor([0]), torch.tensor([-1.0]))


@pytest.mark.parametrize("best", range(4))
def test_an_arm_that_is_always_best_is_found(best: int) -> None:
    """A constant context, rewards 1 for the best and 0 for the rest, without noise.

    An arm seen m times has the bound r m / (1 + m) + alpha / sqrt(1 + m). The best arm's is at least 1/2 once it was
    seen; another's, alpha / sqrt(1 + m) with alpha = 1, falls below that after 4 pulls. So at most 4 pulls go to each
    other arm, 12 in all.
    """
    bandit, context = started(4, 1, alpha=1.0), torch.ones(1, 1, dtype=torch.float64)
    chosen = []
    for _ in range(100):
        arm = bandit.select(context)
        bandit.update(context, arm, (arm == best).double())
        chosen.append(int(arm))
    assert sum(arm != best for arm in chosen) <= 12
    assert chosen[50:] == [best] * 50


def test_the_best_arm_of_each_context_is_found() -> None:
    """Three contexts, in each another arm pays; noise of 0.1."""
    bandit, generator = started(3, 3), torch.Generator().manual_seed(0)
    wrong = 0
    for step in range(300):
        group = step % 3
        context = torch.eye(3, dtype=torch.float64)[group : group + 1]
        arm = bandit.select(context)
        wrong += int(step >= 150 and int(arm) != group)
        noise = 0.1 * torch.randn(1, generator=generator, dtype=torch.float64)
        bandit.update(context, arm, (arm == group).double() + noise)
    assert wrong == 0


def test_without_exploration_only_the_mean_counts() -> None:
    bandit, contexts = started(2, 3, alpha=0.0), unit_contexts(20, 3)
    bandit.update(contexts, torch.arange(20) % 2, torch.linspace(-1, 1, 20))
    why = bandit.explain(contexts)
    assert why.bonus.abs().max() == 0
    assert torch.equal(bandit.select(contexts), why.mean.argmax(-1))


def test_ties_are_broken_with_equal_probability() -> None:
    """Two of three arms are best in 3,000 rows; each gets half, within 4.5 standard errors of sqrt(3000) / 2."""
    values = torch.tensor([[1.0, 0.5, 1.0]]).expand(3000, 3)
    chosen = argmax_with_random_ties(values, torch.Generator().manual_seed(0))
    count = torch.bincount(chosen, minlength=3).tolist()
    assert count[1] == 0
    assert abs(count[0] - 1500) < 4.5 * 3000**0.5 / 2


def test_the_first_choice_is_not_always_the_same() -> None:
    first = {int(started(4, 3, seed=seed).select(unit_contexts(1, 3))) for seed in range(60)}
    assert first == {0, 1, 2, 3}


@pytest.mark.parametrize("alpha", [-0.1, float("nan")])
def test_alpha_out_of_range_is_named(alpha: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"alpha must be >= 0, got {alpha}.*selection.bandit.alpha"):
        LinUCB(alpha)
