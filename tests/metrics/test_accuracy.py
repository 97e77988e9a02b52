"""Accuracy by category, counted again with loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.metrics.accuracy import CategoryAccuracy

CATEGORIES = ["sums", "words", "never"]
UPDATE = st.tuples(st.sampled_from(CATEGORIES[:2]), st.lists(st.booleans(), min_size=1))
UPDATES = st.lists(UPDATE, min_size=1, max_size=8)


def measured(updates: list[tuple[str, list[bool]]]) -> CategoryAccuracy:
    accuracy = CategoryAccuracy(CATEGORIES)
    for category, right in updates:
        accuracy.update(category, torch.tensor(right))
    return accuracy


@given(UPDATES)
def test_equals_loops(updates: list[tuple[str, list[bool]]]) -> None:
    seen: dict[str, list[bool]] = {}
    for category, right in updates:
        seen.setdefault(category, []).extend(right)
    expected = {category: sum(right) / len(right) for category, right in seen.items()}
    expected["average"] = sum(expected.values()) / len(expected)
    found = {name: float(value) for name, value in measured(updates).compute().items()}
    assert found == pytest.approx(expected, abs=1e-6)


@given(UPDATES, st.lists(UPDATE, max_size=8))
def test_two_processes_count_what_one_would(
    one: list[tuple[str, list[bool]]], two: list[tuple[str, list[bool]]]
) -> None:
    together, other = measured(one), measured(two)
    for state, reduce in together._reductions.items():  # what torchmetrics does with the gathered states
        setattr(together, state, reduce(torch.stack([getattr(together, state), getattr(other, state)])))
    assert together.compute() == measured(one + two).compute()


def test_nothing_seen_measures_nothing() -> None:
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert measured([]).compute() == {}


def test_any_shape_is_counted_response_by_response() -> None:
    accuracy = CategoryAccuracy(["sums"])
    accuracy.update("sums", torch.tensor([[True, False], [True, True]]))
    assert float(accuracy.compute()["sums"]) == 0.75


def test_an_unknown_category_is_an_error() -> None:
    with pytest.raises(ValueError, match="poems"):
        CategoryAccuracy(CATEGORIES).update("poems", torch.tensor([True]))
