"""Online ridge regression against matrices that are built and inverted from scratch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from laser_pl.bandits.ridge import Ridge
from tests.runs import ThroughDisk


class SlowRidge:
    """Keeps every observation; A and b are summed anew for each question."""

    def __init__(self, size: int, penalty: float) -> None:
        self.size, self.penalty = size, penalty
        self.seen: list[tuple[np.ndarray, float]] = []

    @property
    def precision(self) -> np.ndarray:
        return self.penalty * np.eye(self.size) + sum(
            (np.outer(c, c) for c, _ in self.seen), np.zeros(2 * (self.size,))
        )

    def answer(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inverse = np.linalg.inv(self.precision)
        moment = sum((r * c for c, r in self.seen), np.zeros(self.size))
        widths = [float(np.sqrt(c @ inverse @ c)) for c in contexts]
        return contexts @ (inverse @ moment), np.array(widths)


def observations(size: int, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    contexts = torch.randn(count, size, generator=generator, dtype=torch.float64)
    return contexts, torch.randn(count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("penalty", [1.0, 0.05, 30.0])
@pytest.mark.parametrize("size", [1, 2, 5, 12, 40])
def test_equals_the_explicit_inverse_before_at_and_after_the_switch(size: int, penalty: float) -> None:
    """The dual form holds for fewer updates than dimensions; the primal form takes over at as many."""
    ridge, slow = Ridge(size, penalty), SlowRidge(size, penalty)
    contexts, rewards = observations(size, 2 * size + 5)
    questions = observations(size, 3, seed=1)[0]
    for context, reward in zip(contexts, rewards.tolist(), strict=True):
        mean, width = slow.answer(questions.numpy())
        np.testing.assert_allclose(ridge.mean(questions).numpy(), mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(ridge.width(questions).numpy(), width, rtol=0, atol=1e-10)
        np.testing.assert_allclose(ridge.precision.numpy(), slow.precision, rtol=0, atol=1e-9)
        assert (ridge.inverse is None) == (len(slow.seen) < size)
        ridge.update(context, reward)
        slow.seen.append((context.numpy(), reward))
    theta = np.linalg.solve(slow.precision, sum(r * c for c, r in slow.seen))
    np.testing.assert_allclose(ridge.weights.numpy(), theta, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1, 8, 30])
def test_twenty_thousand_updates_do_not_drift(size: int) -> None:
    ridge = Ridge(size)
    contexts, rewards = observations(size, 20_000)
    contexts = contexts / contexts.norm(dim=-1, keepdim=True)
    for context, reward in zip(contexts, rewards.tolist(), strict=True):
        ridge.update(context, reward)
    precision = np.eye(size) + contexts.numpy().T @ contexts.numpy()
    theta = np.linalg.solve(precision, contexts.numpy().T @ rewards.numpy())
    assert ridge.inverse is not None
    assert np.abs(ridge.weights.numpy() - theta).max() < 1e-8
    assert np.abs(ridge.inverse.numpy() @ precision - np.eye(size)).max() < 1e-8
    assert torch.equal(ridge.inverse, ridge.inverse.T)


@pytest.mark.parametrize("seen", [29, 30, 300], ids="{} updates".format)
def test_large_contexts_that_share_most_of_themselves_cost_no_digits(seen: int) -> None:
    """Like raw hidden states: norms near 1,000, of which the common part is most."""
    contexts, rewards = observations(30, seen)
    ridge, contexts = Ridge(30), 200 * (contexts + 1)
    for context, reward in zip(contexts, rewards.tolist(), strict=True):
        ridge.update(context, reward)
    # The same regression from the singular values, which need no matrix with their squares.
    left, values, right = np.linalg.svd(contexts.numpy(), full_matrices=False)
    theta = right.T @ (values / (1 + values**2) * (left.T @ rewards.numpy()))
    question = 200 * (observations(30, 1, seed=1)[0] + 1)
    inside = right @ question[0].numpy()
    square = (inside**2 / (1 + values**2)).sum() + np.square(question[0].numpy() - right.T @ inside).sum()
    assert float(ridge.mean(question)) == pytest.approx(question[0].numpy() @ theta, rel=1e-8, abs=1e-8)
    assert float(ridge.width(question)) == pytest.approx(square**0.5, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("repeats", [3, 50])
def test_one_direction_seen_again_and_again_leaves_the_others_unknown(repeats: int) -> None:
    """In closed form: A = I + m u u', so the width along u is 1 / sqrt(1 + m) and 1 elsewhere."""
    ridge = Ridge(10)
    u = torch.zeros(10, dtype=torch.float64)
    u[3] = 1
    for _ in range(repeats):
        ridge.update(u, 0.5)
    assert float(ridge.width(u[None])) == pytest.approx((1 + repeats) ** -0.5, abs=1e-10)
    assert float(ridge.width(u.roll(1)[None])) == pytest.approx(1.0, abs=1e-10)
    assert float(ridge.mean(u[None])) == pytest.approx(0.5 * repeats / (1 + repeats), abs=1e-10)


def test_float32_contexts_are_learned_in_float64() -> None:
    ridge, wide = Ridge(3), Ridge(3)
    contexts, rewards = observations(3, 10)
    for context, reward in zip(contexts.float(), rewards.tolist(), strict=True):
        ridge.update(context, reward)
        wide.update(context.double(), reward)
    assert ridge.weights.dtype == torch.float64
    assert torch.equal(ridge.weights, wide.weights)


@pytest.mark.parametrize("seen", [0, 3, 7, 8, 20], ids="{} updates".format)
def test_a_saved_regression_goes_on_bit_by_bit(through_disk: ThroughDisk, seen: int) -> None:
    contexts, rewards = observations(8, 40)
    one, two = Ridge(8, 0.5), Ridge(8, 0.5)
    for i in range(seen):
        one.update(contexts[i], float(rewards[i]))
    two.load_state_dict(through_disk(one.state_dict()))
    for i in range(seen, 40):
        one.update(contexts[i], float(rewards[i]))
        two.update(contexts[i], float(rewards[i]))
        assert torch.equal(one.mean(contexts), two.mean(contexts))
        assert torch.equal(one.width(contexts), two.width(contexts))


@pytest.mark.parametrize("seen", [3, 20], ids="{} updates".format)
def test_asking_first_changes_no_bit_and_what_was_asked_may_be_overwritten(seen: int) -> None:
    """The last question is remembered for the update; not what another tensor, or the same one later, holds."""
    contexts, rewards = observations(9, 40)
    asked, silent = Ridge(9), Ridge(9)
    for i in range(seen):
        question = contexts[i + 1 : i + 2].clone()
        asked.width(question)
        if i % 2:
            asked.width(question.copy_(contexts[i]))
        asked.update(question[0] if i % 2 else contexts[i], float(rewards[i]))
        silent.update(contexts[i], float(rewards[i]))
    assert torch.equal(asked.weights, silent.weights)
    assert torch.equal(asked.width(contexts), silent.width(contexts))
    question = contexts[:1].clone()
    asked.width(question)
    question.copy_(contexts[1:2])
    assert torch.equal(asked.width(question), silent.width(contexts[1:2]))


@pytest.mark.parametrize("seen", [3, 20], ids="{} updates".format)
def test_a_state_taken_is_not_changed_by_what_comes_after(through_disk: ThroughDisk, seen: int) -> None:
    contexts, rewards = observations(8, 40)
    ridge = Ridge(8)
    for i in range(seen):
        ridge.update(contexts[i], float(rewards[i]))
    state = ridge.state_dict()
    before = through_disk(state)
    for i in range(seen, 40):
        ridge.update(contexts[i], float(rewards[i]))
    for name, value in before.items():
        assert value is state[name] is None or torch.equal(state[name], value)


def test_a_short_history_of_a_wide_context_makes_a_small_checkpoint() -> None:
    """t contexts of size d, not a d by d matrix."""
    ridge = Ridge(512)
    contexts, rewards = observations(512, 5)
    for context, reward in zip(contexts, rewards.tolist(), strict=True):
        ridge.update(context, reward)
    numbers = sum(value.numel() for value in ridge.state_dict().values() if value is not None)
    assert numbers == 5 * 512 + 5 * 6 // 2 + 512
