"""UCB1 against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from laser_pl.bandits import UCB1
from laser_pl.errors import ConfigurationError

NOWHERE = torch.ones(1, 2)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_equals_the_formula(scale: float) -> None:
    """r_k + s sqrt(2 ln t / n_k) from a list of all rewards; contexts change nothing."""
    bandit, seen = UCB1(scale), {0: [], 1: [], 2: []}
    bandit.start(["a", "b", "c"], 2)
    generator = torch.Generator().manual_seed(0)
    for step in range(120):
        context = torch.randn(1, 2, generator=generator)
        chosen = bandit.select(context)
        if step >= 3:
            bounds = [sum(own) / len(own) + scale * math.sqrt(2 * math.log(step) / len(own)) for own in seen.values()]
            why = bandit.explain(context)
            assert (why.mean + why.bonus)[0].tolist() == pytest.approx(bounds, abs=1e-10)
            assert bounds[int(chosen)] == pytest.approx(max(bounds), abs=1e-10)
        reward = torch.rand(1, generator=generator, dtype=torch.float64) + 0.2 * chosen
        bandit.update(context, chosen, reward)
        seen[int(chosen)].append(float(reward))


def test_every_arm_is_tried_before_any_is_tried_again() -> None:
    bandit, tried = UCB1(), []
    bandit.start(["a", "b", "c", "d"], 2)
    for _ in range(4):
        arm = bandit.select(NOWHERE)
        bandit.update(NOWHERE, arm, torch.ones(1))
        tried.append(int(arm))
    assert sorted(tried) == [0, 1, 2, 3]


def test_an_arm_that_is_new_is_tried_first() -> None:
    old, new = UCB1(), UCB1()
    old.start(["a", "b"], 2)
    old.update(NOWHERE.repeat(50, 1), torch.arange(50) % 2, torch.ones(50))
    new.start(["b", "fresh"], 2)
    new.load_state_dict(old.state_dict())
    assert new.select(NOWHERE).tolist() == [1]


def test_a_scale_out_of_range_is_named() -> None:
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigurationError, match=rf"scale must be > 0, got {scale}.*selection.bandit.scale"):
            UCB1(scale)
