"""Shares in whole per cent: they add up, and none is off by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laser_pl.messages.percentages import percentages


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 50), max_size=9))
def test_per_cents_add_up_and_are_near(counts: dict[str, int]) -> None:
    total = sum(counts.values())
    found = percentages({name: count / total for name, count in counts.items()}) if total else percentages(counts)
    assert sum(found.values()) == (100 if total else 0)
    for name, count in counts.items():
        assert not total or abs(found.get(name, 0) - 100 * count / total) < 1
    assert [counts[name] for name in found] == sorted((counts[name] for name in found), reverse=True)


def test_whole_per_cents_stay() -> None:
    """0.29 as a binary fraction is a little less than 29 %."""
    assert percentages({"a": 0.29, "b": 0.57, "c": 0.14}) == {"b": 57, "a": 29, "c": 14}
