"""All reward models of a run; each is loaded when it is first chosen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel


class Pool:
    """Scores by name or by index, and counts what that costs.

    Args:
        reward_models: The arms, in the order of their indices.

    Attributes:
        forwards: Responses scored so far by each reward model.
        seconds: Time spent in loading and scoring.
    """

    def __init__(self, reward_models: Mapping[str, RewardModel]) -> None:
        if not reward_models:
            raise ConfigurationError("selection.reward_models is empty. Name at least one reward model.")
        self.reward_models = dict(reward_models)
        self.names = list(reward_models)
        self.forwards = dict.fromkeys(self.names, 0)
        self.seconds = 0.0
        self._loaded: set[str] = set()

    @property
    def loaded(self) -> list[str]:
        """Names of the reward models that were loaded so far."""
        return [name for name in self.names if name in self._loaded]

    def score(
        self, arm: int, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], device: torch.device
    ) -> Tensor:
        """Scores of one reward model, which is loaded if it was not yet.

        Infinite scores become NaN: no opinion.

        Returns:
            Shape ``(B, n)``, float64, on the CPU.

        Raises:
            ConfigurationError: If it returns another shape, or no tensor.
        """
        name = self.names[arm]
        started = time.perf_counter()
        if name not in self._loaded:
            self.reward_models[name].load(device)
            self._loaded.add(name)
        scores = self.reward_models[name].score(prompts, responses)
        expected = (len(prompts), len(responses[0]))
        if not isinstance(scores, Tensor):
            raise ConfigurationError(
                f"The reward model '{name}' returned {type(scores).__name__}, expected a tensor of shape {expected}."
            )
        if scores.shape != expected:
            raise ConfigurationError(
                f"The reward model '{name}' returned scores of shape {tuple(scores.shape)}, expected {expected}."
            )
        self.forwards[name] += scores.numel()
        self.seconds += time.perf_counter() - started
        scores = scores.detach().cpu().double()  # also from counts, or right and wrong
        return scores.masked_fill(scores.isinf(), float("nan"))

    def score_by_arm(
        self, arms: Tensor, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], device: torch.device
    ) -> Tensor:
        """Scores of each prompt's own reward model, one call per reward model.

        Args:
            arms: Shape ``(B,)``, int64.
            prompts: ``B`` prompts.
            responses: ``n`` responses to each.
            device: Where to score.

        Returns:
            Shape ``(B, n)``, float64.
        """
        scores = torch.empty(len(prompts), len(responses[0]), dtype=torch.float64)
        for arm in sorted(set(arms.tolist())):
            rows = torch.nonzero(arms == arm).squeeze(-1).tolist()
            scores[rows] = self.score(arm, [prompts[r] for r in rows], [responses[r] for r in rows], device)
        return scores

    def state_dict(self) -> dict[str, Any]:
        """What was counted."""
        return {"forwards": dict(self.forwards), "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting, for the reward models that are still there."""
        self.forwards |= {name: count for name, count in state["forwards"].items() if name in self.forwards}
        self.seconds = state["seconds"]
