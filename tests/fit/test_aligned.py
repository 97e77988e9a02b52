"""What is promised bit by bit does not depend on where a tensor lies in memory: all eight places of a vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from laser_pl.bandits import (
    UCB1,
    Bandit,
    Classifier,
    DiscountedLinUCB,
    EpsilonGreedy,
    Exp3,
    LinUCB,
    SlidingWindowLinUCB,
    Thompson,
)
from laser_pl.bandits.aligned import aligned
from laser_pl.bandits.context import ContextPreparation
from laser_pl.bandits.ridge import Ridge
from laser_pl.feedback.normalizers import (
    ArmZScore,
    ContextBaseline,
    PooledQuantiles,
    Raw,
    RewardNormalizer,
    RunningMean,
)
from laser_pl.run.state import digest

BANDITS: dict[str, Callable[[], Bandit]] = {
    "LinUCB": LinUCB,
    "Thompson": Thompson,
    "Thompson with a prior": lambda: Thompson(prior={"a": 0.5}),
    "DiscountedLinUCB": DiscountedLinUCB,
    "SlidingWindowLinUCB": lambda: SlidingWindowLinUCB(window=7),
    "EpsilonGreedy": EpsilonGreedy,
    "UCB1": UCB1,
    "Exp3": Exp3,
    "Classifier": Classifier,
}
SCALES: dict[str, Callable[[], RewardNormalizer]] = {
    "Raw": Raw,
    "PooledQuantiles": PooledQuantiles,
    "RunningMean": RunningMean,
    "ArmZScore": ArmZScore,
    "ContextBaseline": ContextBaseline,
}
ARMS, SIZE = ["a", "b", "c"], 9
offsets = pytest.mark.parametrize("offset", range(1, 8))


def placed(values: Tensor, offset: int) -> Tensor:
    """The same numbers, so many of them into a larger buffer."""
    buffer = torch.zeros(values.numel() + 8, dtype=values.dtype)
    place = buffer[offset : offset + values.numel()].view(values.shape)
    return place.copy_(values)


def moved(state: Any, offset: int) -> Any:
    """The same state with its tensors elsewhere; random generators' states are bytes and stay."""
    if isinstance(state, dict):
        return {name: moved(value, offset) for name, value in state.items()}
    if isinstance(state, Tensor) and state.dtype != torch.uint8:
        return placed(state, offset)
    return state


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("offset", range(8))
def test_a_copy_lies_as_every_other(offset: int) -> None:
    view = placed(numbers(3, SIZE), offset)
    for values in (view, view.T, view[1], view[:, 1:], view.float()):
        copy = aligned(values)
        assert copy.data_ptr() % 64 == 0
        assert copy.is_contiguous()
        assert torch.equal(copy, values.double())


@offsets
@pytest.mark.parametrize("several", [1, 4])
@pytest.mark.parametrize("make", BANDITS.values(), ids=BANDITS)
def test_a_bandit_thinks_the_same_wherever_its_questions_lie(
    make: Callable[[], Bandit], several: int, offset: int
) -> None:
    """Over the change from terms to matrix of a ridge regression, and taken up from a state that lies elsewhere."""
    here, there = make(), make()
    for bandit in (here, there):
        bandit.start(ARMS, SIZE, seed=1)
    contexts, rewards = numbers(24, several, SIZE), numbers(24, several, seed=1)
    for step in range(24):
        context, reward = contexts[step].clone(), rewards[step].clone()
        chosen = here.select(context)
        assert torch.equal(there.select(placed(context, offset)), chosen)
        for name in ("mean", "bonus"):
            one, other = (getattr(b.explain(c), name) for b, c in ((here, context), (there, placed(context, offset))))
            assert torch.equal(one, other), name
        all_ = step % 3 == 0  # a check of all arms, from which Classifier and Exp3 learn otherwise
        about = torch.arange(3).repeat_interleave(several) if all_ else chosen
        times = 3 if all_ else 1
        here.update(context.repeat(times, 1), about, reward.repeat(times))
        there.update(placed(context.repeat(times, 1), offset), about, placed(reward.repeat(times), offset))
        assert digest(here.state_dict()) == digest(there.state_dict())
        if step % 8 == 5:
            there.load_state_dict(moved(there.state_dict(), offset))


@offsets
@pytest.mark.parametrize("make", SCALES.values(), ids=SCALES)
def test_a_scale_gives_the_same_rewards_wherever_its_values_lie(
    make: Callable[[], RewardNormalizer], offset: int
) -> None:
    here, there = make(), make()
    for normalizer in (here, there):
        normalizer.start(ARMS)
    for step in range(12):
        given = numbers(3, SIZE, seed=step), numbers(3, seed=100 + step), numbers(3, seed=200 + step)
        contexts, values, chance = (placed(tensor, offset) for tensor in given)
        one = here.rewards(given[0], torch.arange(3), given[1], given[2])
        assert torch.equal(there.rewards(contexts, torch.arange(3), values, chance), one)
        assert digest(here.state_dict()) == digest(there.state_dict())
        there.load_state_dict(moved(there.state_dict(), offset))


@offsets
def test_contexts_are_prepared_the_same_wherever_hidden_states_lie(offset: int) -> None:
    here, there = ContextPreparation(projection=5), ContextPreparation(projection=5)
    hidden = numbers(6, SIZE).float()
    here.observe(hidden)
    there.observe(placed(hidden, offset))
    for rows in (slice(0, 1), slice(0, 6)):
        assert torch.equal(here.prepare(hidden[rows].clone()), there.prepare(placed(hidden[rows], offset)))


@offsets
@pytest.mark.parametrize("seen", [3, 20], ids="{} updates".format)
def test_what_a_regression_is_asked_before_it_learns_changes_no_bit(seen: int, offset: int) -> None:
    contexts, rewards = numbers(40, SIZE), numbers(40, seed=1)
    asked, silent = Ridge(SIZE), Ridge(SIZE)
    for i in range(seen):
        asked.width(placed(contexts[i : i + 1], offset))
        asked.update(placed(contexts[i], (offset + i) % 8), float(rewards[i]))
        silent.update(contexts[i].clone(), float(rewards[i]))
    assert digest(asked.state_dict()) == digest(silent.state_dict())
    question = contexts[seen : seen + 1]
    assert torch.equal(asked.width(placed(question, offset)), silent.width(question.clone()))
    assert torch.equal(asked.mean(placed(question, offset)), silent.mean(question.clone()))
