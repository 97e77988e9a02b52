"""The objective against sums written out with Python floats."""

from __future__ import annotations

import math

import pytest
import torch

from laser_pl.objectives.dpo import dpo_loss
from laser_pl.objectives.nll import nll_loss
from laser_pl.objectives.pairs import mean_per_prompt


def slow_dpo(policy: float, reference: float, beta: float) -> float:
    """-log(1 / (1 + exp(-x))), in the form that cannot overflow."""
    x = beta * (policy - reference)
    return math.log1p(math.exp(-abs(x))) + max(-x, 0.0)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 7.5])
def test_dpo_equals_its_equation(beta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = 20 * torch.randn(2, 50, generator=generator, dtype=torch.float64)
    expected = [slow_dpo(p, r, beta) for p, r in zip(policy.tolist(), reference.tolist(), strict=True)]
    assert dpo_loss(policy, reference, beta).tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("beta", [0.1, 3.0])
def test_first_loss_is_ln_2_whatever_beta(beta: float) -> None:
    margin = torch.tensor([-30.0, 0.0, 4.5], dtype=torch.float64)
    assert dpo_loss(margin, margin.clone(), beta).tolist() == pytest.approx([math.log(2)] * 3, abs=1e-12)


def test_dpo_stays_finite_and_linear_for_extreme_margins() -> None:
    margin = torch.tensor([-1e6, 1e6], dtype=torch.float64)
    assert dpo_loss(margin, torch.zeros(2), beta=0.5).tolist() == pytest.approx([5e5, 0.0], abs=1e-10)


def test_dpo_gradient_is_minus_beta_times_the_probability_of_the_wrong_order() -> None:
    policy = torch.tensor([0.3, -2.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)
    dpo_loss(policy, reference, beta=0.7).sum().backward()
    expected = [-0.7 / (1 + math.exp(0.7 * (p - r))) for p, r in ((0.3, 1.0), (-2.0, 0.5))]
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx(expected, abs=1e-12)
    assert reference.grad is None


@pytest.mark.parametrize("beta", [0.0, -0.1, float("nan")])
def test_dpo_refuses_a_beta_that_is_not_positive(beta: float) -> None:
    with pytest.raises(ValueError, match=rf"beta must be > 0, got {beta}"):
        dpo_loss(torch.zeros(1), torch.zeros(1), beta)


def test_dpo_refuses_margins_of_different_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\)"):
        dpo_loss(torch.zeros(2), torch.zeros(1), 0.1)


def test_nll_is_per_token() -> None:
    logprobs = torch.tensor([-6.0, -0.5, -7.0], dtype=torch.float64)
    assert nll_loss(logprobs, torch.tensor([3, 1, 2])).tolist() == [2.0, 0.5, 3.5]


@pytest.mark.parametrize("seed", range(5))
def test_mean_per_prompt_equals_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pairs, prompts = 23, 9
    values = torch.randn(pairs, generator=generator, dtype=torch.float64)
    prompt = torch.randint(prompts, (pairs,), generator=generator)
    found = mean_per_prompt(values, prompt, prompts).tolist()
    for row in range(prompts):
        own = [value for value, at in zip(values.tolist(), prompt.tolist(), strict=True) if at == row]
        expected = math.fsum(own) / len(own) if own else math.nan
        assert found[row] == pytest.approx(expected, abs=1e-10, nan_ok=True)


def test_a_prompt_without_pairs_sends_no_nan_into_the_others_gradient() -> None:
    values = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    means = mean_per_prompt(values, torch.tensor([0, 0, 2]), prompts=3)
    with torch.autograd.set_detect_anomaly(True):  # raises where a NaN comes up on the way, as in 0 / 0
        means[~means.isnan()].mean().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.25, 0.25, 0.5]
