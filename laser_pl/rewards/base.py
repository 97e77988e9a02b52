"""What every reward model offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.batches import Prompt


class RewardModel(ABC):
    """Scores responses. Has its own tokenizer, template and length limit; sees text, never the policy's tokens."""

    def check(self) -> None:
        """Find mistakes that can be found without loading weights; called before the first rollout.

        Raises:
            ConfigurationError: If what is configured is no such reward model.
        """

    def load(self, device: torch.device) -> None:
        """Get ready to score on ``device``; called once, before the first ``score``.

        Raises:
            ConfigurationError: If what is configured is no such reward model.
        """

    @abstractmethod
    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """Scores, higher is better; NaN is no opinion.

        Args:
            prompts: ``B`` prompts, as the data set has them.
            responses: ``n`` responses to each.

        Returns:
            Shape ``(B, n)``, floating point.
        """
