"""Seeds follow from the place in a run."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from laser_pl.runtime.seeds import derive_seed

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
