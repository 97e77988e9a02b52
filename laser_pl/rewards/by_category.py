"""A reward model for each category: routing by hand, for those who know which one to trust where."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel


class ByCategory(RewardModel):
    """Asks the reward model of the prompt's category. As the only arm it is what a perfect choice would bring.

    Args:
        reward_models: Category to reward model.
    """

    def __init__(self, reward_models: dict[str, RewardModel]) -> None:
        self.reward_models = reward_models

    def check(self) -> None:
        """Check all of them."""
        for reward_model in self.reward_models.values():
            reward_model.check()

    def load(self, device: torch.device) -> None:
        """Load all of them."""
        for reward_model in self.reward_models.values():
            reward_model.load(device)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """Each prompt's scores, from its category's reward model. Shape ``(B, n)``, float64.

        Raises:
            ConfigurationError: If a category has none.
        """
        scores = torch.empty(len(prompts), len(responses[0]), dtype=torch.float64)
        for category in sorted({prompt.category for prompt in prompts}):
            if category not in self.reward_models:
                raise ConfigurationError(
                    f"ByCategory has no reward model for the category '{category}', only for"
                    f" {', '.join(self.reward_models)}. Add one under reward_models."
                )
            rows = [row for row, prompt in enumerate(prompts) if prompt.category == category]
            own = self.reward_models[category].score([prompts[r] for r in rows], [responses[r] for r in rows])
            scores[rows] = own.double().cpu()
        return scores
