"""Bytes of what is learned beside the adapter: the optimizer's state and the bandit's."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.base import Bandit

SMALL = 16
"""Size of the contexts that a bandit is tried with, at least."""


def optimizer_state(make: Callable[[Any], torch.optim.Optimizer], size: int) -> int:
    """Bytes of an optimizer's state over parameters of ``size`` bytes, found by a step of a small one.

    For AdamW that is twice the parameters (Kingma and Ba 2015: both moments), for SGD with momentum once.

    >>> optimizer_state(torch.optim.AdamW, 1000), optimizer_state(torch.optim.SGD, 1000)
    (2000, 0)
    """
    parameter = torch.nn.Parameter(torch.zeros(64, 64))
    optimizer = make([parameter])
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = [value for value in optimizer.state[parameter].values() if isinstance(value, Tensor) and value.dim() > 0]
    ratio = sum(value.nbytes for value in state) / parameter.nbytes
    return round(ratio * size)


def bandit_state(bandit: Bandit, arms: list[str], context_size: int, observations: float) -> int:
    r"""Bytes of a bandit's state after so many observations of each arm.

    What linear bandits keep grows with :math:`d^2`, or with :math:`t d` and :math:`t^2` until t reaches d (see
    ``laser_pl.bandits.ridge.Ridge``); all of these keep their proportions when d and t shrink together. So two small
    ones are taught, and give :math:`a + b d^2`.

    Args:
        bandit: As it is configured; it is left alone.
        arms: The arms' names.
        context_size: d.
        observations: t.
    """
    small = max(SMALL, round(SMALL / 2 * context_size / max(observations, 1)))  # in which t is still a number to count
    if 2 * small >= context_size:
        return _taught(bandit, arms, context_size, math.ceil(observations))
    one, two = (_taught(bandit, arms, d, math.ceil(observations * d / context_size)) for d in (small, 2 * small))
    return max(round(one + (two - one) / (3 * small**2) * (context_size**2 - small**2)), 0)


def _taught(bandit: Bandit, arms: list[str], size: int, observations: int) -> int:
    bandit = copy.deepcopy(bandit)
    bandit.start(arms, size)
    generator = torch.Generator().manual_seed(0)
    for _ in range(min(observations, 2 * size)):
        for arm in range(len(arms)):
            context = torch.randn(1, size, generator=generator, dtype=torch.float64)
            bandit.update(context, torch.tensor([arm]), torch.zeros(1, dtype=torch.float64))
    return sum(tensor.nbytes for tensor in _tensors(bandit.state_dict()))


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from _tensors(value)
