"""Which prompts an iteration uses."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.batches import Prompt
from laser_pl.data.plan import batches_of_iteration, prompts_of_iteration, split_every
from laser_pl.runtime.seeds import derive_seed

SEED = st.integers(0, 2**31)


def make_prompts(count: int, categories: int = 1) -> list[Prompt]:
    return [Prompt(f"p{i}", "", "", category=f"c{i % categories}") for i in range(count)]


@given(st.lists(st.integers()), st.integers(1, 7))
def test_groups_are_full_but_the_last_and_keep_the_order(items: list[int], size: int) -> None:
    groups = split_every(items, size)
    assert [item for group in groups for item in group] == items
    assert all(len(group) == size for group in groups[:-1])
    assert all(groups)


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 6), SEED)
def test_every_lap_holds_each_prompt_once(total: int, count: int, iterations: int, seed: int) -> None:
    prompts = make_prompts(total)
    dealt = [p.id for i in range(iterations) for p in prompts_of_iteration(prompts, i, count, seed)]
    assert len(dealt) == iterations * min(count, total)
    for lap in split_every(dealt, total):
        assert max(Counter(lap).values()) == 1


@given(st.integers(1, 12), st.integers(0, 5), SEED)
def test_null_takes_all(total: int, iteration: int, seed: int) -> None:
    found = prompts_of_iteration(make_prompts(total), iteration, None, seed)
    assert sorted(p.id for p in found) == sorted(p.id for p in make_prompts(total))


def test_laps_and_seeds_have_orders_of_their_own() -> None:
    prompts = make_prompts(30)
    orders = {tuple(p.id for p in prompts_of_iteration(prompts, lap, None, seed)) for lap in (0, 1) for seed in (0, 1)}
    assert len(orders) == 4


def test_an_iteration_can_be_planned_without_those_before_it() -> None:
    prompts = make_prompts(10)
    in_turn = [prompts_of_iteration(prompts, i, 4, seed=3) for i in range(6)]
    assert prompts_of_iteration(prompts, 5, 4, seed=3) == in_turn[5]


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 8), st.booleans(), st.integers(0, 3), SEED)
def test_batches_cover_every_prompt_once(
    total: int, categories: int, size: int, by_category: bool, iteration: int, seed: int
) -> None:
    prompts = make_prompts(total, categories)
    batches = batches_of_iteration(prompts, size, by_category, iteration, seed)
    assert Counter(p.id for batch in batches for p in batch) == Counter(p.id for p in prompts)
    assert all(1 <= len(batch) <= size for batch in batches)
    assert batches == batches_of_iteration(prompts, size, by_category, iteration, seed)
    if by_category:
        assert all(len({p.category for p in batch}) == 1 for batch in batches)
        per_category = Counter(p.category for p in prompts)
        assert len(batches) == sum(-(-count // size) for count in per_category.values())
    else:
        assert [p for batch in batches for p in batch] == prompts


def test_categories_come_mixed_and_otherwise_in_each_iteration() -> None:
    prompts = make_prompts(60, categories=3)
    orders = {
        tuple(batch[0].category for batch in batches_of_iteration(prompts, 4, True, iteration, seed=0))
        for iteration in range(4)
    }
    assert len(orders) == 4


@given(st.lists(st.sampled_from(["abc", "d", "ä"]), max_size=30), st.integers(1, 5), st.integers(0, 3), SEED)
def test_batches_by_category_are_those_of_the_plain_formula(
    categories: list[str], size: int, iteration: int, seed: int
) -> None:
    """Which goes through all prompts once for each category; runs that were begun with it go on alike."""
    prompts = [Prompt(f"p{number}", "", "", category=name) for number, name in enumerate(categories)]
    expected = []
    for name in sorted(set(categories)):
        expected += split_every([prompt for prompt in prompts if prompt.category == name], size)
    order = np.random.default_rng(derive_seed(seed, "batches", iteration)).permutation(len(expected))
    assert batches_of_iteration(prompts, size, True, iteration, seed) == [expected[index] for index in order]


def test_thousands_of_categories_are_looked_through_once() -> None:
    """The quadratic form compared 16,000 prompts with 16,000 names, for 10 s."""
    prompts, began = make_prompts(16_000, categories=16_000), time.process_time()
    assert len(batches_of_iteration(prompts, 4, True, 0, seed=0)) == 16_000
    assert time.process_time() - began < 2
