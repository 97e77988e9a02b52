"""An ensemble whose weights follow what training rewarded: the paper's "online ensemble"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import PairIndices, Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.ensemble import Ensemble, standardised


class OnlineEnsemble(Ensemble):
    r"""The weighted mean of the members' standardised scores, with weights that are learned.

    All members are asked, so nothing has to be corrected for who was. After a step member k's weight is multiplied by
    :math:`\exp(\eta\, r\, a_k)`, where :math:`\eta` is the rate, r the bandit's reward of the step, in [-1, 1] with the
    scale ``ContextBaseline``, and :math:`a_k \in [-1, 1]` says how far the member agreed with the pairs that were
    trained: +1 with all of them, -1 with none. Who agreed with what turned out well gains; who agreed with what turned
    out badly loses.

    Args:
        reward_models: The members, by name.
        rate: Learning rate of the weights, > 0.
    """

    def __init__(self, reward_models: dict[str, RewardModel], rate: float = 0.1) -> None:
        if not rate > 0:
            raise ConfigurationError(f"rate must be > 0, got {rate}. Set it in the ensemble's config.")
        super().__init__(reward_models)
        self.rate = rate
        self.log_weights = torch.zeros(len(self.members), dtype=torch.float64)
        self._scores: dict[str, Tensor] = {}  # (E, n) of the prompts asked about last

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """The weighted scores; the members' own are remembered until the next question."""
        self._scores = {}
        combined = super().score(prompts, responses)
        self._scores = {prompt.id: self._last[:, row] for row, prompt in enumerate(prompts)}
        return combined

    def combine(self, scores: Tensor) -> Tensor:
        """Mean over members, by weight; a member without an opinion has none."""
        self._last = standardised(scores)
        weights = self.log_weights.softmax(0)[:, None, None] * ~self._last.isnan()
        return (weights * self._last.nan_to_num(0.0)).sum(0) / weights.sum(0)

    def lessons(self, prompts: Sequence[Prompt], pairs: PairIndices, rewards: Tensor) -> dict[int, Tensor]:
        """The exponents without the rate, ``(E,)`` for each prompt that had pairs."""
        gains = {}
        for row, prompt in enumerate(prompts):
            own = pairs.prompt == row
            scores = self._scores.get(prompt.id)
            if scores is None or not own.any() or not rewards[row].isfinite():
                continue
            margins = scores[:, pairs.chosen[own]] - scores[:, pairs.rejected[own]]  # (E, pairs)
            gains[row] = rewards[row] * margins.nan_to_num(0.0).sign().mean(-1)
        return gains

    def learn(self, lessons: dict[int, Tensor]) -> None:
        """Multiply the weights, by the mean over the prompts."""
        if lessons:
            self.log_weights = self.log_weights + self.rate * torch.stack(list(lessons.values())).mean(0)

    def state_dict(self) -> dict[str, Any]:
        """Logarithms of the weights, by the member's name."""
        return {"log_weights": dict(zip(self.reward_models, self.log_weights.tolist(), strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up those of the members that are still there."""
        known = state["log_weights"]
        self.log_weights = torch.tensor([known.get(name, 0.0) for name in self.reward_models], dtype=torch.float64)
