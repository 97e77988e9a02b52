"""Bandits that learn nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.bandits import Bandit, Fixed, Oracle, RoundRobin, Uniform
from laser_pl.errors import ConfigurationError
from tests.runs import ThroughDisk

ARMS = ["a", "b", "c"]
SIZES = st.lists(st.integers(0, 5), max_size=8)


def started(bandit: Bandit, seed: int = 0) -> Bandit:
    bandit.start(ARMS, 2, seed)
    return bandit


def choices(bandit: Bandit, sizes: list[int]) -> list[int]:
    return [arm for size in sizes for arm in bandit.select(torch.zeros(size, 2)).tolist()]


@pytest.mark.parametrize(("arm", "index"), [(None, 0), ("a", 0), ("c", 2)])
def test_fixed_always_takes_its_arm(arm: str | None, index: int) -> None:
    assert choices(started(Fixed(arm)), [1, 3]) == [index] * 4


def test_fixed_needs_an_arm_that_is_there() -> None:
    with pytest.raises(ConfigurationError, match=r"is 'd'; the reward models are a, b, c"):
        Fixed("d").check(ARMS)


@given(SIZES)
def test_round_robin_takes_one_after_the_other_across_batches(sizes: list[int]) -> None:
    assert choices(started(RoundRobin()), sizes) == [i % 3 for i in range(sum(sizes))]


@given(SIZES, st.integers(0, 20))
def test_round_robin_per_iteration_takes_one_arm_for_all_its_decisions(sizes: list[int], iteration: int) -> None:
    bandit = started(RoundRobin("iteration"))
    for later in range(3):
        for size in sizes:
            bandit.tell(iteration + later, [None] * size)
            assert choices(bandit, [size]) == [(iteration + later) % 3] * size


def test_an_oracle_knows_the_arm_of_each_category_and_nobody_of_a_mixed_batch() -> None:
    """A third of 6,000 choices for mixed batches, within 4.5 standard errors."""
    bandit = started(Oracle({"math": "c", "code": "a", "chat": "c"}))
    bandit.check(ARMS)
    categories = ["math", "code", "chat", "code"]
    bandit.tell(0, [*categories, *[None] * 6000])
    chosen = bandit.select(torch.zeros(6004, 2))
    assert chosen[:4].tolist() == [2, 0, 2, 0]
    count = torch.bincount(chosen[4:], minlength=3).double()
    assert float((count - 2000).abs().max()) < 4.5 * (6000 * 2 / 9) ** 0.5


def test_an_oracle_says_before_a_run_which_category_it_does_not_know() -> None:
    oracle = Oracle({"sums": "numbers"})
    oracle.check_categories(["sums"])
    with pytest.raises(ConfigurationError, match="says nothing of the category 'words', only of sums"):
        oracle.check_categories(["sums", "words"])


def test_an_oracle_needs_arms_that_are_there_and_categories_it_knows() -> None:
    with pytest.raises(ConfigurationError, match=r"right names 'd' for 'code'; the reward models are a, b, c"):
        Oracle({"math": "c", "code": "d"}).check(ARMS)
    bandit = started(Oracle({"math": "c"}))
    with pytest.raises(ConfigurationError, match=r"right says nothing of the category 'code'"):
        bandit.tell(0, ["math", "code"])
    with pytest.raises(ValueError, match="given 0 decisions and is asked for 2"):
        bandit.select(torch.zeros(2, 2))


def test_uniform_takes_each_arm_as_often() -> None:
    """A third of 6,000 choices, within 4.5 standard errors."""
    count = torch.bincount(torch.tensor(choices(started(Uniform()), [6000])), minlength=3)
    error = (6000 * (1 / 3) * (2 / 3)) ** 0.5
    assert float((count - 2000).abs().max()) < 4.5 * error


@pytest.mark.parametrize("make", [Uniform, RoundRobin, Fixed])
@given(SIZES)
def test_choices_go_on_after_a_restart(through_disk: ThroughDisk, make: type[Bandit], sizes: list[int]) -> None:
    one = started(make(), seed=3)
    choices(one, sizes)
    two = started(make(), seed=4)
    two.load_state_dict(through_disk(one.state_dict()))
    assert choices(two, [4, 7]) == choices(one, [4, 7])


@pytest.mark.parametrize("make", [Uniform, RoundRobin, Fixed])
def test_rewards_change_nothing_and_there_is_no_opinion(make: type[Bandit]) -> None:
    rewarded, plain = started(make(), seed=1), started(make(), seed=1)
    rewarded.update(torch.zeros(2, 2), torch.tensor([0, 1]), torch.tensor([5.0, -5.0]))
    assert choices(rewarded, [9]) == choices(plain, [9])
    why = rewarded.explain(torch.zeros(4, 2))
    assert why.mean.shape == why.bonus.shape == (4, 3)
    assert not why.mean.any()
    assert not why.bonus.any()


@pytest.mark.parametrize(("bandit", "expected"), [(Fixed("b"), [1, 1]), (RoundRobin(), [0, 1])])
def test_without_learning_there_is_nothing_but_the_usual_choice_to_use(bandit: Bandit, expected: list[int]) -> None:
    assert started(bandit).without_exploring(torch.zeros(2, 2)).tolist() == [[arm] for arm in expected]
