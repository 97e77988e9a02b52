"""Reward models that mislead, in different ways."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.composite import Composite
from laser_pl.rewards.scores import as_tensor
from laser_pl.runtime.seeds import derive_seed


class Inverted(Composite):
    """Another reward model's scores with the opposite sign.

    Args:
        reward_model: The other.
    """

    def __init__(self, reward_model: RewardModel) -> None:
        super().__init__({"reward_model": reward_model})

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """What the other likes least comes first."""
        return -_scores(self.members[0], prompts, responses)


class Noisy(Composite):
    """Another reward model's scores plus Gaussian noise, the same whenever a response is scored again.

    Args:
        reward_model: The other.
        noise: Standard deviation of the noise, in those of the other's scores of the same responses.
        seed: Root of the noise.
    """

    def __init__(self, reward_model: RewardModel, noise: float, seed: int = 0) -> None:
        super().__init__({"reward_model": reward_model})
        self.noise = noise
        self.seed = seed

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """The other's scores, blurred."""
        scores = _scores(self.members[0], prompts, responses)
        spread = scores.std(dim=-1, keepdim=True, correction=0)  # (B, 1)
        return scores + self.noise * spread * _noise(self.seed, prompts, responses)


class Random(RewardModel):
    """Scores that mean nothing, the same whenever a response is scored again.

    Args:
        seed: Root of the scores.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """Standard normal numbers."""
        return _noise(self.seed, prompts, responses)


def _scores(model: RewardModel, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
    return as_tensor(model.score(prompts, responses), (len(prompts), len(responses[0])), type(model).__name__)


def _noise(seed: int, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
    """A standard normal number for each text. Shape ``(B, n)``, float64."""
    return torch.tensor(
        [
            [
                float(
                    torch.randn(
                        (),
                        generator=torch.Generator().manual_seed(derive_seed(seed, prompt.text, text)),
                        dtype=torch.float64,
                    )
                )
                for text in row
            ]
            for prompt, row in zip(prompts, responses, strict=True)
        ],
        dtype=torch.float64,
    )
