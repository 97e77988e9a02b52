"""A reward model for each category: routing by hand, for those who know which one to trust where."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.composite import Composite, named
from laser_pl.rewards.scores import abstentions, as_lists, as_tensor


class ByCategory(Composite):
    """Asks the reward model of the prompt's category. As the only arm it is what a perfect choice would bring.

    Args:
        reward_models: Category to reward model.
    """

    def __init__(self, reward_models: dict[str, RewardModel]) -> None:
        super().__init__(reward_models)

    def forwards_per_response(self, n: int) -> float:
        """At most: those of the costliest."""
        return max(member.forwards_per_response(n) for member in self.members)

    def forwards(self, prompts: Sequence[Prompt], n: int) -> float:
        """Those of each prompt's own."""
        own = [self.reward_models.get(prompt.category) for prompt in prompts]  # one that is missing is refused later
        return sum(member.forwards([prompt], n) for member, prompt in zip(own, prompts, strict=True) if member)

    def check_categories(self, categories: Sequence[str]) -> None:
        """See that each has a reward model, which can judge it."""
        self._refuse_missing(categories)
        for category in categories:
            self.reward_models[category].check_categories([category])

    def _refuse_missing(self, categories: Sequence[str]) -> None:
        for category in categories:
            if category not in self.reward_models:
                raise ConfigurationError(
                    f"ByCategory has no reward model for the category '{category}', only for"
                    f" {', '.join(self.reward_models)}. Add one under reward_models."
                )

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """Let each look at its own category's prompts.

        Raises:
            ConfigurationError: If a category has none.
        """
        present = sorted({prompt.category for prompt in prompts})
        self._refuse_missing(present)
        for category in present:
            with named(category):
                own = [prompt for prompt in prompts if prompt.category == category]
                self.reward_models[category].check_texts(own, characters)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """Each prompt's scores, from its category's reward model: ``B`` lists of ``n``.

        Raises:
            ConfigurationError: If a category has none.
        """
        present = sorted({prompt.category for prompt in prompts})
        self._refuse_missing(present)
        scores = torch.empty(len(prompts), len(responses[0]), dtype=torch.float64)
        silent = torch.zeros_like(scores, dtype=torch.bool)
        for category in present:
            rows = [row for row, prompt in enumerate(prompts) if prompt.category == category]
            own = self.reward_models[category].score([prompts[r] for r in rows], [responses[r] for r in rows])
            scores[rows] = as_tensor(own, (len(rows), scores.shape[1]), f"The reward model of '{category}'")
            silent[rows] = abstentions(own, scores[rows])
        return as_lists(scores, silent)
