"""Seeds follow from the place in a run, and leave the random state outside alone."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.seeds import derive_seed, seeded

POSITION = st.tuples(st.integers(0, 5), st.lists(st.one_of(st.integers(0, 30), st.text(max_size=3)), max_size=3))


@given(POSITION)
def test_seed_is_the_first_63_bits_of_the_hash(place: tuple[int, list[int | str]]) -> None:
    root, position = place
    digits = hashlib.sha256(repr((root, *position)).encode()).hexdigest()[:16]
    assert derive_seed(root, *position) == int(digits, 16) // 2
    assert 0 <= derive_seed(root, *position) < 2**63


@given(POSITION, POSITION)
def test_other_places_have_other_seeds(one: tuple[int, list[int | str]], two: tuple[int, list[int | str]]) -> None:
    assert (derive_seed(one[0], *one[1]) == derive_seed(two[0], *two[1])) == (one == two)


def test_neighbouring_digits_do_not_run_together() -> None:
    seeds = {derive_seed(*place) for place in ((1, 23), (12, 3), (1, 2, 3), (123,), (1, "23"), (1, "2", "3"))}
    assert len(seeds) == 6


def test_a_seeded_block_repeats_and_the_state_outside_is_untouched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    with seeded(9, torch.device("cpu")):
        one = torch.rand(3)
    first = torch.rand(2)
    with seeded(9, torch.device("cpu")):
        two = torch.rand(3)
    assert torch.equal(one, two)
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)


def test_a_failing_block_gives_the_state_back_too() -> None:
    before = torch.get_rng_state()

    def fail() -> None:
        with seeded(9, torch.device("cpu")):
            torch.rand(3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)
