"""The library's bandits for many seeds at once: one row of each tensor is one seed's bandit.

The library's classes learn one run; these learn hundreds side by side, in the explicit form with an inverse for each
arm, and are tested to think what the library's think. Shapes: ``S`` seeds, ``K`` arms, ``d`` context size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Crowd(ABC):
    """Bandits that choose for one context each and learn its reward."""

    def start(self, seeds: int, arms: int, size: int, generator: torch.Generator) -> None:
        """Begin without knowledge."""
        self.seeds, self.arms, self.size, self.generator = seeds, arms, size, generator
        self.rows = torch.arange(seeds)

    @abstractmethod
    def select(self, contexts: Tensor) -> Tensor:
        """Arms ``(S,)`` for contexts ``(S, d)``."""

    def update(self, contexts: Tensor, chosen: Tensor, rewards: Tensor) -> None:
        """Learn: contexts ``(S, d)``, arms ``(S,)`` and rewards ``(S,)``."""

    def uniform(self) -> Tensor:
        """Any arm. Shape ``(S,)``."""
        return torch.randint(self.arms, (self.seeds,), generator=self.generator)

    def best(self, values: Tensor) -> Tensor:
        """The largest of each row, ties at random. Shapes ``(S, K)`` to ``(S,)``."""
        ties = values == values.amax(-1, keepdim=True)
        return torch.multinomial(ties.double(), 1, generator=self.generator).squeeze(-1)


class Uniform(Crowd):
    """Any arm."""

    def select(self, contexts: Tensor) -> Tensor:
        """Any arm."""
        return self.uniform()


class Linear(Crowd):
    """A ridge regression for each arm, with its inverse updated by Sherman and Morrison's formula."""

    def start(self, seeds: int, arms: int, size: int, generator: torch.Generator) -> None:
        """Begin with identities."""
        super().start(seeds, arms, size, generator)
        self.inverse = torch.eye(size, dtype=torch.float64).expand(seeds, arms, size, size).clone()
        self.moment = torch.zeros(seeds, arms, size, dtype=torch.float64)

    def predict(self, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """Means and widths of all arms, ``(S, K)`` each."""
        known = torch.einsum("skij,sj->ski", self.inverse, contexts)
        width = torch.einsum("ski,si->sk", known, contexts).clamp(min=0).sqrt()
        return torch.einsum("ski,ski->sk", known, self.moment), width

    def update(self, contexts: Tensor, chosen: Tensor, rewards: Tensor) -> None:
        """One term for each seed's chosen arm."""
        inverse = self.inverse[self.rows, chosen]  # (S, d, d)
        known = torch.einsum("sij,sj->si", inverse, contexts)
        scale = 1 + (known * contexts).sum(-1)
        self.inverse[self.rows, chosen] = inverse - known[:, :, None] * known[:, None] / scale[:, None, None]
        self.moment[self.rows, chosen] += rewards[:, None] * contexts


class LinUCB(Linear):
    """See ``laser_pl.bandits.LinUCB``."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def select(self, contexts: Tensor) -> Tensor:
        """The largest bound."""
        mean, width = self.predict(contexts)
        return self.best(mean + self.alpha * width)


class Thompson(Linear):
    """See ``laser_pl.bandits.Thompson``.

    Args:
        spread: Of the draw.
        prior: What each arm is believed to be worth anywhere. Shape ``(K,)``; None is no level at all.
        prior_weight: Rewards that it counts for.
    """

    def __init__(self, spread: float, prior: Tensor | None = None, prior_weight: float = 10.0) -> None:
        self.spread = spread
        self.prior = prior
        self.column = 0.0 if prior is None else prior_weight**-0.5

    def start(self, seeds: int, arms: int, size: int, generator: torch.Generator) -> None:
        """Begin with the prior, whose error is learned by one more column."""
        super().start(seeds, arms, size + 1, generator)
        self.level = torch.zeros(arms, dtype=torch.float64) if self.prior is None else self.prior

    def with_column(self, contexts: Tensor) -> Tensor:
        """Contexts with the constant. Shape ``(S, d + 1)``."""
        return torch.nn.functional.pad(contexts, (0, 1), value=self.column)

    def predict(self, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """Means and widths of all arms, ``(S, K)`` each."""
        mean, width = super().predict(self.with_column(contexts))
        return self.level + mean, width

    def select(self, contexts: Tensor) -> Tensor:
        """The best of a draw."""
        mean, width = self.predict(contexts)
        noise = torch.randn(mean.shape, generator=self.generator, dtype=torch.float64)
        return self.best(mean + self.spread * width * noise)

    def update(self, contexts: Tensor, chosen: Tensor, rewards: Tensor) -> None:
        """What the prior missed."""
        super().update(self.with_column(contexts), chosen, rewards - self.level[chosen])


class EpsilonGreedy(Linear):
    """See ``laser_pl.bandits.EpsilonGreedy``."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon

    def select(self, contexts: Tensor) -> Tensor:
        """The best or any."""
        explores = torch.rand(self.seeds, generator=self.generator) < self.epsilon
        return torch.where(explores, self.uniform(), self.best(self.predict(contexts)[0]))


class UCB1(Crowd):
    """See ``laser_pl.bandits.UCB1``."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def start(self, seeds: int, arms: int, size: int, generator: torch.Generator) -> None:
        """Begin without a reward."""
        super().start(seeds, arms, size, generator)
        self.counts = torch.zeros(seeds, arms, dtype=torch.float64)
        self.sums = torch.zeros(seeds, arms, dtype=torch.float64)

    def select(self, contexts: Tensor) -> Tensor:
        """The largest bound."""
        tried = self.counts.clamp(min=1)
        bonus = self.scale * (2 * self.counts.sum(-1, keepdim=True).clamp(min=1).log() / tried).sqrt()
        return self.best(self.sums / tried + bonus.masked_fill(self.counts == 0, torch.inf))

    def update(self, contexts: Tensor, chosen: Tensor, rewards: Tensor) -> None:
        """Add up."""
        self.counts[self.rows, chosen] += 1
        self.sums[self.rows, chosen] += rewards


class Exp3(Crowd):
    """See ``laser_pl.bandits.Exp3``, for rewards in [0, 1]."""

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def start(self, seeds: int, arms: int, size: int, generator: torch.Generator) -> None:
        """Begin with equal weights."""
        super().start(seeds, arms, size, generator)
        self.log_weights = torch.zeros(seeds, arms, dtype=torch.float64)

    def probabilities(self) -> Tensor:
        """Of every arm. Shape ``(S, K)``."""
        return (1 - self.gamma) * self.log_weights.softmax(-1) + self.gamma / self.arms

    def select(self, contexts: Tensor) -> Tensor:
        """A draw."""
        return torch.multinomial(self.probabilities(), 1, generator=self.generator).squeeze(-1)

    def update(self, contexts: Tensor, chosen: Tensor, rewards: Tensor) -> None:
        """Multiply."""
        chance = self.probabilities()[self.rows, chosen]
        self.log_weights[self.rows, chosen] += self.gamma / self.arms * rewards.clamp(0, 1) / chance


class Forgetful(Crowd):
    """See ``laser_pl.bandits.DiscountedLinUCB`` and ``SlidingWindowLinUCB``: sums of weighted terms, solved each time.

    Args:
        alpha: Of the bound.
        gamma: Discount for each step.
        window: Steps that count; None for all.
    """

    def __init__(self, alpha: float, gamma: float = 1.0, window: int | None = None) -> None:
        self.alpha = alpha
        self.gamma = gamma
        self.window = window

    def start(self, seeds: int, arms: int, size: int, generator: torch.Generator) -> None:
        """Begin with nothing."""
        super().start(seeds, arms, size, generator)
        self.gram = torch.zeros(seeds, arms, size, size, dtype=torch.float64)  # weights w
        self.square = torch.zeros(seeds, arms, size, size, dtype=torch.float64)  # weights w^2
        self.moment = torch.zeros(seeds, arms, size, dtype=torch.float64)
        self.past: list[tuple[Tensor, Tensor, Tensor]] = []

    def select(self, contexts: Tensor) -> Tensor:
        """The largest bound."""
        eye = torch.eye(self.size, dtype=torch.float64)
        solved = torch.linalg.solve(self.gram + eye, contexts[:, None].expand(-1, self.arms, -1))  # (S, K, d)
        mean = (solved * self.moment).sum(-1)
        width = torch.einsum("ski,skij,skj->sk", solved, self.square + eye, solved).clamp(min=0).sqrt()
        return self.best(mean + self.alpha * width)

    def update(self, contexts: Tensor, chosen: Tensor, rewards: Tensor) -> None:
        """Age, add, and take out what leaves the window."""
        if self.gamma < 1:
            self.gram *= self.gamma
            self.square *= self.gamma**2
            self.moment *= self.gamma
        self._add(contexts, chosen, rewards, 1.0)
        if self.window is not None:
            self.past.append((contexts, chosen, rewards))
            if len(self.past) > self.window:
                self._add(*self.past.pop(0), -1.0)

    def _add(self, contexts: Tensor, chosen: Tensor, rewards: Tensor, sign: float) -> None:
        outer = sign * contexts[:, :, None] * contexts[:, None]
        self.gram[self.rows, chosen] += outer
        self.square[self.rows, chosen] += outer
        self.moment[self.rows, chosen] += sign * rewards[:, None] * contexts
