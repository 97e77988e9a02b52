"""The simulator's bandits think what the library's think, and its regret is what was lost."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from laser_pl import bandits

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "bandits"
SEEDS, STEPS, ARMS, SIZE = 3, 60, 4, 5


@pytest.fixture(scope="module")
def crowd() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    return importlib.import_module("crowd")


@pytest.fixture(scope="module")
def simulate(crowd: ModuleType) -> ModuleType:
    return importlib.import_module("simulate")


def history() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Contexts, arms and rewards in [0, 1] of several seeds."""
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(SEEDS, SIZE, generator=generator, dtype=torch.float64),
            torch.randint(ARMS, (SEEDS,), generator=generator),
            torch.rand(SEEDS, generator=generator, dtype=torch.float64),
        )
        for _ in range(STEPS)
    ]


def learned(bandit: bandits.Bandit, seed: int) -> bandits.Bandit:
    """The library's bandit after one seed's history."""
    bandit.start([f"arm {k}" for k in range(ARMS)], SIZE)
    for contexts, arms, rewards in history():
        bandit.update(contexts[seed : seed + 1], arms[seed : seed + 1], rewards[seed : seed + 1])
    return bandit


QUESTION = torch.randn(SEEDS, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def all_learned(one: object) -> object:
    one.start(SEEDS, ARMS, SIZE, torch.Generator().manual_seed(0))  # type: ignore[attr-defined]
    for step in history():
        one.update(*step)  # type: ignore[attr-defined]
    return one


def test_linear_bandits_expect_the_same(crowd: ModuleType) -> None:
    mean, width = all_learned(crowd.LinUCB(0.7)).predict(QUESTION)
    for seed in range(SEEDS):
        why = learned(bandits.LinUCB(0.7), seed).explain(QUESTION[seed : seed + 1])
        torch.testing.assert_close(mean[seed], why.mean[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(0.7 * width[seed], why.bonus[0], rtol=0, atol=1e-10)


def test_a_prior_means_the_same(crowd: ModuleType) -> None:
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    ours = all_learned(crowd.Thompson(0.0, prior))
    named = {f"arm {k}": value for k, value in enumerate(prior.tolist())}
    for seed in range(SEEDS):
        theirs = learned(bandits.Thompson(0.0, named), seed)
        (mean, width), question = ours.predict(QUESTION), QUESTION[seed : seed + 1]
        torch.testing.assert_close(mean[seed], theirs.explain(question).mean[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(width[seed], theirs.widths(question)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"gamma": 0.9}, lambda: bandits.DiscountedLinUCB(0.5, gamma=0.9)),
        ({"window": 17}, lambda: bandits.SlidingWindowLinUCB(0.5, window=17)),
    ],
    ids=["discounted", "window"],
)
def test_forgetful_bandits_choose_the_same(crowd: ModuleType, options: dict[str, float], make: object) -> None:
    """Those of the library drop what weighs less than 1e-12."""
    ours = all_learned(crowd.Forgetful(0.5, **options))
    eye = torch.eye(SIZE, dtype=torch.float64)
    solved = torch.linalg.solve(ours.gram + eye, QUESTION[:, None].expand(-1, ARMS, -1))
    mean = (solved * ours.moment).sum(-1)
    width = torch.einsum("ski,skij,skj->sk", solved, ours.square + eye, solved).sqrt()
    for seed in range(SEEDS):
        why = learned(make(), seed).explain(QUESTION[seed : seed + 1])  # type: ignore[operator]
        torch.testing.assert_close(mean[seed], why.mean[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(0.5 * width[seed], why.bonus[0], rtol=0, atol=1e-10)
    assert torch.equal(ours.select(QUESTION), (mean + 0.5 * width).argmax(-1))


def test_bandits_without_context_count_the_same(crowd: ModuleType) -> None:
    ucb, exp3 = all_learned(crowd.UCB1(0.3)), all_learned(crowd.Exp3(0.2))
    for seed in range(SEEDS):
        why = learned(bandits.UCB1(0.3), seed).explain(QUESTION[:1])
        expected = ucb.sums / ucb.counts + 0.3 * (2 * torch.tensor(float(STEPS)).double().log() / ucb.counts).sqrt()
        torch.testing.assert_close(expected[seed], why.mean[0] + why.bonus[0], rtol=0, atol=1e-10)
        chance = learned(bandits.Exp3(0.2, low=0.0), seed).explain(QUESTION[:1]).mean[0]
        torch.testing.assert_close(exp3.probabilities()[seed], chance, rtol=0, atol=1e-10)


def test_regret_is_what_was_lost(simulate: ModuleType, crowd: ModuleType) -> None:
    """Against a bandit that always takes arm 1: the sum of what the best arm was worth more."""

    class First(crowd.Uniform):  # type: ignore[misc, name-defined]
        def select(self, contexts: Tensor) -> Tensor:
            return torch.ones(len(contexts), dtype=torch.long)

    found = simulate.regret(First(), seeds=2, steps=40, drifts=True, seed=5)
    world = simulate.World(2, 40, True, torch.Generator().manual_seed(5))
    lost = torch.zeros(2, dtype=torch.float64)
    for step in range(40):
        _, worth = world.step(step)
        lost += worth.amax(-1) - worth[:, 1]
        torch.testing.assert_close(found[:, step], lost, rtol=0, atol=1e-12)


def test_the_librarys_own_bandits_lose_as_much(simulate: ModuleType) -> None:
    """In the same worlds; they draw other numbers, so means over ten seeds agree within 4.5 standard errors."""
    assert list(simulate.LIBRARY) == list(simulate.BANDITS)
    for name in simulate.BANDITS:
        makers = simulate.BANDITS[name], simulate.LIBRARY[name]
        ours, theirs = (simulate.regret(make(), 10, 60, True)[:, -1] for make in makers)
        error = ((ours.var() + theirs.var()) / 10).sqrt()
        assert abs(float(ours.mean() - theirs.mean())) < 4.5 * float(error), name


def test_growth_of_known_curves(simulate: ModuleType) -> None:
    time = torch.arange(1, 1001, dtype=torch.float64)
    for exponent in (0.5, 1.0):
        mean, half = simulate.growth((2 * time**exponent).expand(3, -1))
        assert mean == pytest.approx(exponent, abs=1e-9)
        assert half == pytest.approx(0.0, abs=1e-9)


def test_learning_bandits_lose_less_than_chance(simulate: ModuleType) -> None:
    """And the linear ones less and less a step."""
    lost = {name: simulate.regret(make(), 10, 400, drifts=False) for name, make in simulate.BANDITS.items()}
    chance = float(lost["uniform"][:, -1].mean())
    for name in ("LinUCB, alpha 1", "Thompson, spread 0.3", "epsilon-greedy, 0.1", "UCB1", "Exp3, gamma 0.1"):
        assert float(lost[name][:, -1].mean()) < chance
    assert simulate.growth(lost["LinUCB, alpha 1"])[0] < 0.9
    assert simulate.growth(lost["uniform"])[0] == pytest.approx(1.0, abs=0.05)


def test_the_page_has_every_bandit_in_both_worlds(simulate: ModuleType) -> None:
    curves = {name: simulate.regret(make(), 2, 20, drifts=True) for name, make in simulate.BANDITS.items()}
    text = simulate.page({"stationary": curves, "drifting": curves}, 2, 20, "python simulate.py", 1.0)
    for name in simulate.BANDITS:
        assert text.count(f"| {name} |") == 2
