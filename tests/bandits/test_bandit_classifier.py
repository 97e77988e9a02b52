"""The classifier that names the best arm, against an optimiser that shares no line with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from laser_pl.bandits import Classifier
from tests.runs import ThroughDisk

ARMS = ["a", "b", "c"]


def contexts_of(count: int, size: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def show(bandit: Classifier, contexts: Tensor, rewards: Tensor) -> None:
    """Rewards of all arms ``(t, K)``, in one update."""
    arms = rewards.shape[-1]
    bandit.update(contexts.repeat_interleave(arms, 0), torch.arange(arms).repeat(len(contexts)), rewards.flatten())


def started(arms: list[str], size: int = 3) -> Classifier:
    bandit = Classifier()
    bandit.start(arms, size)
    return bandit


def test_equals_another_optimiser_on_the_same_labels() -> None:
    """Softmax by a loop, gradient by differences; 30 labels of three arms, of which every fifth is shared by two."""
    contexts, rewards = contexts_of(30), contexts_of(30, seed=1)
    rewards[::5, 1] = rewards[::5, 0]
    bandit = started(ARMS)
    for i in range(30):
        show(bandit, contexts[i : i + 1], rewards[i : i + 1])

    def loss(flat: np.ndarray) -> float:
        theta, total = flat.reshape(3, 3), 0.5 * float(flat @ flat)
        for c, r in zip(contexts.numpy(), rewards.numpy(), strict=True):
            logits = theta @ c
            winners = np.flatnonzero(r == r.max())
            total += np.log(np.exp(logits).sum()) - logits[winners].mean()
        return total

    theta = minimize(loss, np.zeros(9), method="BFGS", tol=1e-8).x.reshape(3, 3)
    question = contexts_of(10, seed=2)
    logits = np.exp(question.numpy() @ theta.T)
    expected = logits / logits.sum(-1, keepdims=True)
    np.testing.assert_allclose(bandit.explain(question).mean.numpy(), expected, rtol=0, atol=1e-4)
    assert loss(theta.flatten()) < loss(np.zeros(9)) - 1
    assert not bandit.explain(question).bonus.any()


def test_every_arm_is_as_likely_until_the_first_label() -> None:
    """A third of 3,000 choices, within 4.5 standard errors; rewards of some arms only are no label."""
    bandit, contexts = started(ARMS), contexts_of(3000)
    bandit.update(contexts[:2], torch.tensor([0, 1]), torch.tensor([1.0, -1.0]))
    bandit.update(contexts[:1].repeat(2, 1), torch.tensor([0, 2]), torch.tensor([1.0, -1.0]))
    count = torch.bincount(bandit.select(contexts), minlength=3).double()
    assert ((count - 1000).abs() < 4.5 * (3000 * 2 / 9) ** 0.5).all()


def test_the_best_arm_of_each_group_is_learned() -> None:
    """Three directions, in each another arm is best: one label of each is enough."""
    bandit, directions = started(ARMS), torch.eye(3, dtype=torch.float64)
    show(bandit, directions, torch.eye(3).roll(1, dims=1))
    assert bandit.select(directions).tolist() == [1, 2, 0]


def test_labels_are_learned_beside_rewards_of_single_arms() -> None:
    """One update with a check of all arms at one context, in any order, and a choice at another."""
    mixed, plain = started(ARMS), started(ARMS)
    contexts = contexts_of(2)
    mixed.update(contexts[[0, 1, 0, 0]], torch.tensor([2, 1, 0, 1]), torch.tensor([0.9, 5.0, 0.1, 0.2]))
    show(plain, contexts[:1], torch.tensor([[0.1, 0.2, 0.9]]))
    assert torch.equal(mixed.explain(contexts).mean, plain.explain(contexts).mean)


def test_a_label_says_nothing_of_an_arm_that_is_new(through_disk: ThroughDisk) -> None:
    """Where a beats b, the new one is between them; what was known of those two stays."""
    old, new = started(["a", "b"]), started(["b", "fresh", "a"])
    contexts = contexts_of(1).repeat(20, 1) + 0.1 * contexts_of(20, seed=1)
    show(old, contexts, torch.tensor([[1.0, 0.0]]).repeat(20, 1))
    new.load_state_dict(through_disk(old.state_dict()))
    b, fresh, a = new.explain(contexts).mean.T
    assert (b < fresh).all()
    assert (fresh < a).all()
    both = old.explain(contexts).mean
    torch.testing.assert_close(a / (a + b), both[:, 0], rtol=0, atol=1e-6)


def test_labels_of_an_arm_that_is_gone_are_dropped_and_shared_ones_go_to_the_others(
    through_disk: ThroughDisk,
) -> None:
    old, new, expected = started(ARMS), started(["a", "b"]), started(["a", "b"])
    contexts = contexts_of(3)
    show(old, contexts, torch.tensor([[0.0, 0.1, 1.0], [0.0, 1.0, 1.0], [1.0, 0.5, 0.0]]))
    new.load_state_dict(through_disk(old.state_dict()))
    show(expected, contexts[1:], torch.tensor([[0.0, 1.0], [1.0, 0.5]]))
    torch.testing.assert_close(new.explain(contexts).mean, expected.explain(contexts).mean, rtol=0, atol=1e-7)


def test_an_arm_without_a_label_is_left_out_of_the_comparison_and_no_more() -> None:
    """Where c abstains, a and b are compared as in a world without c; one arm alone is no comparison."""
    three, two = started(ARMS), started(["a", "b"])
    contexts, rewards = contexts_of(12), contexts_of(12, seed=1)[:, :2]
    alone = torch.eye(3, dtype=torch.bool)[:2]
    for context, both in zip(contexts, rewards, strict=True):
        three.learn(context.expand(2, -1), torch.tensor([0, 1]), both, alone)
        three.learn(context.expand(1, -1), torch.tensor([1]), both[1:], alone[1:])
        show(two, context[None], both[None])
    found = three.explain(contexts).mean[:, :2]
    expected = two.explain(contexts).mean
    torch.testing.assert_close(found / found.sum(-1, keepdim=True), expected, rtol=0, atol=1e-6)
    assert len(three.labels) == 12
    chosen = started(ARMS)
    chosen.learn(contexts[:2], torch.tensor([0, 1]), torch.ones(2), torch.ones(2, 3, dtype=torch.bool))
    assert len(chosen.labels) == 0


def test_only_the_newest_labels_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laser_pl.bandits.classifier.KEPT", 5)
    bounded, short = started(ARMS), started(ARMS)
    contexts, rewards = contexts_of(9), contexts_of(9, seed=1)
    show(bounded, contexts, rewards)
    show(short, contexts[4:], rewards[4:])
    assert len(bounded.state_dict()["labels"]) == 5
    assert torch.equal(bounded.explain(contexts).mean, short.explain(contexts).mean)
