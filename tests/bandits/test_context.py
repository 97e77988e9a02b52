"""From hidden states to contexts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.bandits.context import ContextPreparation
from laser_pl.errors import ConfigurationError
from tests.runs import ThroughDisk


def hidden_states(count: int, size: int = 5, seed: int = 0) -> Tensor:
    """With a large common part, as language models have it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator) + torch.tensor([40.0, -3.0, 0.0, 7.0, 1.0])[:size]


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("unit_norm", [False, True])
@pytest.mark.parametrize("intercept", [0.0, 0.3])
def test_equals_the_steps_by_hand(center: bool, unit_norm: bool, intercept: float) -> None:
    preparation, hidden = ContextPreparation(center, unit_norm, intercept), hidden_states(12)
    preparation.observe(hidden)
    found = preparation.prepare(hidden[:3])
    assert found.shape == (3, preparation.size(5))
    assert found.dtype == torch.float64
    columns = list(zip(*hidden.double().tolist(), strict=True))
    means = [math.fsum(column) / 12 if center else 0.0 for column in columns]
    for row in range(3):
        values = [value - mean for value, mean in zip(hidden[row].double().tolist(), means, strict=True)]
        norm = math.sqrt(math.fsum(value**2 for value in values)) if unit_norm else 1.0
        expected = [value / norm for value in values] + ([intercept] if intercept else [])
        assert found[row].tolist() == pytest.approx(expected, abs=1e-10)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8))
def test_the_running_mean_is_the_mean_of_all(sizes: list[int]) -> None:
    hidden, preparation, at = hidden_states(sum(sizes)), ContextPreparation(), 0
    for size in sizes:
        preparation.observe(hidden[at : at + size])
        at += size
        assert preparation.mean is not None
        torch.testing.assert_close(preparation.mean, hidden[:at].double().mean(0), rtol=0, atol=1e-10)


def test_preparing_learns_nothing() -> None:
    preparation, hidden = ContextPreparation(), hidden_states(4)
    preparation.observe(hidden)
    once = preparation.prepare(hidden)
    assert torch.equal(preparation.prepare(hidden), once)


def test_a_context_without_direction_has_none() -> None:
    """Not NaN: the very first prompt is its own mean, and so is the mean of the very first batch."""
    preparation, hidden = ContextPreparation(intercept=0.3), hidden_states(1)
    preparation.observe(hidden)
    assert preparation.prepare(hidden)[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 0.3], abs=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_errors_of_the_first_batchs_mean_are_no_direction(seed: int) -> None:
    """Hidden states are float32, and so is the mean that a batch's decision is made for."""
    preparation, hidden = ContextPreparation(intercept=0.0), hidden_states(16, seed=seed)
    preparation.observe(hidden)
    assert float(preparation.prepare(hidden.mean(0, keepdim=True)).norm()) < 1e-3


def test_a_saved_mean_goes_on_bit_by_bit(through_disk: ThroughDisk) -> None:
    one, two, fresh = ContextPreparation(), ContextPreparation(), ContextPreparation()
    one.observe(hidden_states(7))
    two.load_state_dict(through_disk(one.state_dict()))
    fresh.load_state_dict(through_disk(fresh.state_dict()))
    for preparation in (one, two):
        preparation.observe(hidden_states(3, seed=1))
    assert torch.equal(one.prepare(hidden_states(4)), two.prepare(hidden_states(4)))
    assert fresh.mean is None


def test_a_negative_intercept_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"intercept must be >= 0, got -0.1"):
        ContextPreparation(intercept=-0.1)


def test_a_projection_keeps_lengths_and_angles() -> None:
    """1,024 dimensions to 256: squared lengths and products within 5 standard deviations, sqrt(2 / 256) and less."""
    hidden = torch.nn.functional.normalize(torch.randn(20, 1024, generator=torch.Generator().manual_seed(0)), dim=-1)
    preparation = ContextPreparation(center=False, unit_norm=False, intercept=0.0, projection=256)
    found = preparation.prepare(hidden)
    assert found.shape == (20, preparation.size(1024)) == (20, 256)
    assert float((found @ found.T - (hidden @ hidden.T).double()).abs().max()) < 5 * math.sqrt(2 / 256)


def test_a_projection_follows_from_the_sizes_alone(through_disk: ThroughDisk) -> None:
    """So a run that goes on, and a second process, project as the first one did; the mean is the projected one's."""
    one, two, hidden = ContextPreparation(projection=3), ContextPreparation(projection=3), hidden_states(6)
    one.observe(hidden)
    two.load_state_dict(through_disk(one.state_dict()))
    assert torch.equal(one.prepare(hidden), two.prepare(hidden))
    assert one.prepare(hidden).shape == (6, one.size(5)) == (6, 4)
    plain = ContextPreparation(center=False, unit_norm=False, intercept=0.0, projection=3)
    torch.testing.assert_close(one.mean, plain.prepare(hidden).mean(0), rtol=0, atol=1e-10)


def test_a_projection_to_nothing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="projection must be >= 1, got 0"):
        ContextPreparation(projection=0)
