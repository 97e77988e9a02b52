"""From a signal's values to rewards of one size, whatever the category and the time of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.ridge import Ridge
from laser_pl.errors import ConfigurationError


class RewardNormalizer(ABC):
    """Turns values into rewards and learns from them what is usual."""

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names, in the order of their indices."""

    @abstractmethod
    def rewards(self, contexts: Tensor, arms: Tensor, values: Tensor, chance: Tensor) -> Tensor:
        """Rewards of some values, which are then remembered.

        Args:
            contexts: Prepared contexts. Shape ``(O, d)``.
            arms: The arm each value is about. Shape ``(O,)``, int64.
            values: Higher is better. Shape ``(O,)``.
            chance: The values to expect of a reward model that scores at random. Shape ``(O,)``.

        Returns:
            Shape ``(O,)``, float64.
        """

    def state_dict(self) -> dict[str, Any]:
        """What was learned."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""


class Raw(RewardNormalizer):
    """The values as they are."""

    def rewards(self, contexts: Tensor, arms: Tensor, values: Tensor, chance: Tensor) -> Tensor:
        """The values."""
        return values.double()


HISTORY = 10_000
"""So many values, the newest, ``PooledQuantiles`` takes its quantiles of. The paper's runs make about 3,000."""


class PooledQuantiles(RewardNormalizer):
    r"""The paper's scale: the place between two quantiles of all arms' values, in [0, 1].

    It is :math:`r = \mathrm{clip}((x - q_{20}) / (q_{80} - q_{20}), 0, 1)`. The quantiles are those of all arms'
    history, the value itself included; of a history beyond 10,000 values, those of the last 10,000, so that a
    checkpoint does not grow with the run. Where the two quantiles are one number the rule is taken at its limit: 1
    above that number, 0 below it, and a half, neither good nor bad, at the number itself.

    Args:
        low: The quantile that becomes 0, in [0, 1].
        high: The quantile that becomes 1, above it.
    """

    def __init__(self, low: float = 0.2, high: float = 0.8) -> None:
        if not 0 <= low < high <= 1:
            raise ConfigurationError(
                f"low and high must be quantiles in [0, 1], low the smaller one, got {low} and {high}. Set them under"
                " selection.normalizer.init_args."
            )
        self.low = low
        self.high = high
        self.history = torch.zeros(0, dtype=torch.float64)

    def rewards(self, contexts: Tensor, arms: Tensor, values: Tensor, chance: Tensor) -> Tensor:
        """Each value's place between the quantiles."""
        values = values.double()
        if len(values) == 0:
            return values
        self.history = torch.cat([self.history, values])[-HISTORY:].clone()
        low, high = torch.quantile(self.history, self.low), torch.quantile(self.history, self.high)
        if high <= low:
            return ((values - low).sign() + 1) / 2
        return ((values - low) / (high - low)).clamp(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """The values that count."""
        return {"history": self.history.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the values."""
        self.history = torch.as_tensor(state["history"], dtype=torch.float64).clone()


class RunningMean(RewardNormalizer):
    """The distance from the mean of all values so far; two deviations make a reward of 1."""

    def __init__(self) -> None:
        self.moments = Moments()

    def rewards(self, contexts: Tensor, arms: Tensor, values: Tensor, chance: Tensor) -> Tensor:
        """Standardised values."""
        self.moments.observe(values.tolist())
        return ((values.double() - self.moments.mean) / self.moments.deviation).clamp(-2, 2) / 2

    def state_dict(self) -> dict[str, Any]:
        """Mean and spread so far."""
        return self.moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.moments.load_state_dict(state)


class ArmZScore(RewardNormalizer):
    r"""The distance from the arm's own moving mean in its own deviations, BayesianRouter's scale.

    With :math:`\mu \leftarrow \rho\mu + (1 - \rho) x` and :math:`\sigma^2` likewise, where :math:`\rho` is the decay
    (arXiv 2510.02850 keeps one pair for each reward model), the reward of x is the distance in deviations,
    clipped and halved, :math:`\mathrm{clip}((x - \mu) / \sigma, -2, 2) / 2`. It subtracts what an arm is worth on
    average, so what is left says where an arm is better than it usually is, not which arm is better.

    Args:
        decay: What a mean keeps of itself at each value, in (0, 1).
    """

    def __init__(self, decay: float = 0.9) -> None:
        if not 0 < decay < 1:
            raise ConfigurationError(f"decay must be in (0, 1), got {decay}. Set selection.normalizer.init_args.decay.")
        self.decay = decay
        self._arms: list[str] = []
        self.moments: dict[str, tuple[float, float]] = {}  # mean and variance by arm

    def start(self, arms: Sequence[str]) -> None:
        """Learn the arms' names, under which their moments are kept."""
        self._arms = list(arms)

    def rewards(self, contexts: Tensor, arms: Tensor, values: Tensor, chance: Tensor) -> Tensor:
        """Each value against those of its arm before it, which then move."""
        found = []
        for index, value in zip(arms.tolist(), values.tolist(), strict=True):
            arm = self._arms[index]
            mean, variance = self.moments.get(arm, (value, 0.0))
            error = value - mean
            found.append(max(-2.0, min(2.0, error / variance**0.5)) / 2 if variance > 0 else 0.0)
            mean, variance = mean + (1 - self.decay) * error, self.decay * variance + (1 - self.decay) * error**2
            self.moments[arm] = mean, variance
        return torch.tensor(found, dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        """Each arm's moving mean and variance."""
        return {"moments": dict(self.moments)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.moments = {arm: (mean, variance) for arm, (mean, variance) in state["moments"].items()}


class ContextBaseline(RewardNormalizer):
    r"""The distance from what is usual at such a context, in [-1, 1].

    It is :math:`r = \mathrm{clip}(e / (s \sqrt{1 + w^2}), -2, 2) / 2`. The level of a loss differs between prompts more
    than between reward models, so a common baseline rewards the arms that got the easy prompts. Here the error is what
    remains, :math:`e = x - x_0 - g(c)`. What chance would give, :math:`x_0`, is known from the rollouts before anybody
    judges. What it leaves, such as the fall of the loss in training, is learned by ``g``, a ridge regression on the
    context that all arms share (one per arm would subtract what should be learned). ``w`` is the width of its
    prediction, which makes rewards small where ``g`` knows nothing yet, and ``s`` the spread of the standardised
    errors. ``g`` starts at the first value, not at zero, which would praise the first arms for what all arms get.

    Args:
        penalty: The regression's ridge penalty. The noise of a value over the variance of its level between contexts.
    """

    def __init__(self, penalty: float = 1.0) -> None:
        if not penalty > 0:
            raise ConfigurationError(f"penalty must be > 0, got {penalty}. Set selection.normalizer.init_args.penalty.")
        self.penalty = penalty
        self.model: Ridge | None = None
        self.level = 0.0
        self.errors = Moments()

    def rewards(self, contexts: Tensor, arms: Tensor, values: Tensor, chance: Tensor) -> Tensor:
        """Standardised distances from the baseline, which then learns the values."""
        if len(values) == 0:
            return values.double()
        values = values.double() - chance
        if self.model is None:
            self.model = Ridge(contexts.shape[-1], self.penalty)
            self.level = float(values.mean())
        values = values - self.level
        errors = values - self.model.mean(contexts)  # (O,)
        errors = errors / (1 + self.model.width(contexts).square()).sqrt()
        for context, value in zip(contexts, values.tolist(), strict=True):
            self.model.update(context, value)
        self.errors.observe(errors.tolist())
        return (errors / self.errors.root_mean_square).clamp(-2, 2) / 2

    def state_dict(self) -> dict[str, Any]:
        """The regression and the spread of its errors."""
        model = None if self.model is None else self.model.state_dict()
        return {"model": model, "level": self.level, "errors": self.errors.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.level = state["level"]
        self.errors.load_state_dict(state["errors"])
        self.model = None
        if state["model"] is not None:
            self.model = Ridge(len(state["model"]["weights"]), self.penalty)
            self.model.load_state_dict(state["model"])


class Moments:
    """Mean and spread of numbers that come one after the other (Welford's recurrence)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Take more numbers in."""
        for value in values:
            self.count += 1
            before = value - self.mean
            self.mean += before / self.count
            self.squares += before * (value - self.mean)

    @property
    def deviation(self) -> float:
        """Standard deviation; 1 while there is none."""
        return (self.squares / self.count) ** 0.5 if self.squares > 0 else 1.0

    @property
    def root_mean_square(self) -> float:
        """Distance from zero; 1 while there is none."""
        square = self.squares / self.count + self.mean**2 if self.count else 0.0
        return square**0.5 if square > 0 else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Count, mean and sum of squares."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.count, self.mean, self.squares = state["count"], state["mean"], state["squares"]
