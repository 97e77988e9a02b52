"""LinUCB for rewards that drift: what was seen long ago counts less, or not at all."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.base import Explanation
from laser_pl.bandits.explained import Explained
from laser_pl.bandits.weighted_ridge import WeightedRidge
from laser_pl.errors import ConfigurationError


class ForgetfulLinUCB(Explained):
    """LinUCB whose observations weigh less as they age.

    Time is counted in observations of all arms, so that an arm that is not tried becomes uncertain again.

    Args:
        alpha: How much uncertainty is worth, >= 0, in units of the reward.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        if not alpha >= 0:
            raise ConfigurationError(f"alpha must be >= 0, got {alpha}. Set selection.bandit.alpha in the config.")
        self.alpha = alpha

    @property
    @abstractmethod
    def memory(self) -> int:
        """Observations older than so many are forgotten."""

    @abstractmethod
    def weights(self, ages: Tensor) -> Tensor:
        """Of observations by their age, 0 for the newest. Shapes ``(t,)``."""

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin without an observation."""
        super().start(arms, context_size, seed)
        self.models = [WeightedRidge(context_size) for _ in self.arms]
        self.time = 0

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Keep the new observations, in order, and drop the old ones."""
        super().update(contexts, arms, rewards)
        for context, arm, reward in zip(contexts, arms.tolist(), rewards.tolist(), strict=True):
            self.models[arm].update(context, reward, self.time)
            self.time += 1
        for model in self.models:
            model.forget(self.time - self.memory)

    def opinion(self, contexts: Tensor) -> Explanation:
        """Expected reward and exploration bonus of every arm."""
        found = [model.predict(contexts, self.weights(self.time - 1 - model.times)) for model in self.models]
        mean, width = (torch.stack(both, dim=-1) for both in zip(*found, strict=True))  # (M, K)
        return Explanation(mean, self.alpha * width)

    def state_dict(self) -> dict[str, Any]:
        """Each arm's observations, by the arm's name."""
        models = {arm: model.state_dict() for arm, model in zip(self.arms, self.models, strict=True)}
        return {**super().state_dict(), "time": self.time, "models": models}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up those of the arms that are still there; a new arm starts fresh."""
        super().load_state_dict(state)
        self.time = state["time"]
        for arm, model in zip(self.arms, self.models, strict=True):
            if arm in state["models"]:
                model.load_state_dict(state["models"][arm])


class DiscountedLinUCB(ForgetfulLinUCB):
    r"""LinUCB that forgets slowly: D-LinUCB of Russac et al. 2019.

    An observation of age a weighs :math:`\gamma^a`; the ridge penalty stays. What weighs less than 1e-12 is dropped:
    all of it together changes nothing that could be seen.

    Args:
        alpha: How much uncertainty is worth, >= 0, in units of the reward.
        gamma: Discount per observation, in (0, 1).
    """

    def __init__(self, alpha: float = 1.0, gamma: float = 0.99) -> None:
        super().__init__(alpha)
        if not 0 < gamma < 1:
            raise ConfigurationError(f"gamma must be in (0, 1), got {gamma}. Set selection.bandit.gamma in the config.")
        self.gamma = gamma

    @property
    def memory(self) -> int:
        """The age at which the weight falls below 1e-12."""
        return math.ceil(math.log(1e-12) / math.log(self.gamma))

    def weights(self, ages: Tensor) -> Tensor:
        """Powers of gamma."""
        return self.gamma ** ages.double()


class SlidingWindowLinUCB(ForgetfulLinUCB):
    """LinUCB that knows the last observations only: SW-LinUCB of Cheung et al. 2019.

    Args:
        alpha: How much uncertainty is worth, >= 0, in units of the reward.
        window: How many observations, of all arms together, >= 1.
    """

    def __init__(self, alpha: float = 1.0, window: int = 200) -> None:
        super().__init__(alpha)
        if window < 1:
            raise ConfigurationError(f"window must be >= 1, got {window}. Set selection.bandit.window in the config.")
        self.window = window

    @property
    def memory(self) -> int:
        """The window."""
        return self.window

    def weights(self, ages: Tensor) -> Tensor:
        """All the same."""
        return torch.ones(len(ages), dtype=torch.float64)
