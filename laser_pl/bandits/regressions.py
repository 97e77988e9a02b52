"""One ridge regression per arm: what every linear bandit learns, whatever it makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.explained import Explained
from laser_pl.bandits.ridge import Ridge


class Regressions(Explained):
    """A bandit that expects of each arm what its own ridge regression on the context says.

    Attributes:
        models: The regressions, in the order of the arms.
    """

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin with regressions that know nothing."""
        super().start(arms, context_size, seed)
        self.models = [self.model(arm) for arm in self.arms]

    def model(self, arm: str) -> Ridge:
        """An arm's regression at the start."""
        return Ridge(self.context_size)

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Learn each reward in its arm's regression, in order."""
        super().update(contexts, arms, rewards)
        for context, arm, reward in zip(contexts, arms.tolist(), rewards.tolist(), strict=True):
            self.models[arm].update(context, reward)

    def means(self, contexts: Tensor) -> Tensor:
        """Expected reward of every arm. Shape ``(M, K)``, float64."""
        return torch.stack([model.mean(contexts) for model in self.models], dim=-1)

    def widths(self, contexts: Tensor) -> Tensor:
        """How little is known of every arm. Shape ``(M, K)``, float64."""
        return torch.stack([model.width(contexts) for model in self.models], dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Each arm's regression, by the arm's name."""
        models = {arm: model.state_dict() for arm, model in zip(self.arms, self.models, strict=True)}
        return {**super().state_dict(), "models": models}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the regressions of the arms that are still there; a new arm starts fresh."""
        super().load_state_dict(state)
        for arm, model in zip(self.arms, self.models, strict=True):
            if arm in state["models"]:
                model.load_state_dict(state["models"][arm])
