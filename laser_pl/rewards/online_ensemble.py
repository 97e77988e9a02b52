"""An ensemble whose weights follow what training rewarded: the paper's "online ensemble"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import PairIndices, Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.ensemble import standardised
from laser_pl.rewards.weighted_ensemble import WeightedEnsemble, weighted_mean

Question = tuple[str, tuple[str, ...]]
"""A prompt's id and the responses to it."""
REMEMBERED = 4096
"""So many questions are remembered at most, the newest: who only predicts never forgets by itself."""


class OnlineEnsemble(WeightedEnsemble):
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
        self._scores: dict[Question, Tensor] = {}  # (E, n) of what was asked since it learned last

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """The weighted scores; the members' own are remembered until it learns."""
        combined = super().score(prompts, responses)
        for row, (prompt, texts) in enumerate(zip(prompts, responses, strict=True)):
            self._scores.setdefault((prompt.id, tuple(texts)), self._last[:, row])
        for question in list(self._scores)[: max(0, len(self._scores) - REMEMBERED)]:  # the oldest
            del self._scores[question]
        return combined

    def combine(self, scores: Tensor) -> Tensor:
        """Mean over members, by weight; a member without an opinion has none."""
        self._last = standardised(scores)
        return weighted_mean(self._last, self.weights)

    @property
    def weights(self) -> Tensor:
        """Of the members, as learned; they add up to 1. Shape ``(E,)``, float64."""
        return self.log_weights.softmax(0)

    def lessons(
        self,
        prompts: Sequence[Prompt],
        pairs: PairIndices,
        rewards: Tensor,
        responses: Sequence[Sequence[str]] | None = None,
    ) -> dict[int, Tensor]:
        """The exponents without the rate, ``(E,)`` for each prompt that had pairs.

        A prompt that is in the batch twice has other responses there, by which its scores are distinguished.
        """
        gains = {}
        for row, scores in enumerate(self._scores_of(prompts, responses)):
            own = pairs.prompt == row
            if scores is None or not own.any() or not rewards[row].isfinite():
                continue
            margins = scores[:, pairs.chosen[own]] - scores[:, pairs.rejected[own]]  # (E, pairs)
            gains[row] = rewards[row] * margins.nan_to_num(0.0).sign().mean(-1)
        return gains

    def _scores_of(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]] | None) -> list[Tensor | None]:
        if responses is not None:
            return [self._scores.get((p.id, tuple(texts))) for p, texts in zip(prompts, responses, strict=True)]
        asked: dict[str, list[Tensor]] = {}
        for (id_, _), scores in self._scores.items():
            asked.setdefault(id_, []).append(scores)
        times: Counter[str] = Counter()
        found: list[Tensor | None] = []
        for prompt in prompts:
            own = asked.get(prompt.id)
            # Two rows whose responses are the same were remembered as one.
            found.append(own[min(times[prompt.id], len(own) - 1)] if own else None)
            times[prompt.id] += 1
        return found

    def learn(self, lessons: dict[int, Tensor]) -> None:
        """Multiply the weights, by the mean over the prompts, and forget what was asked."""
        if lessons:
            self.log_weights = self.log_weights + self.rate * torch.stack(list(lessons.values())).mean(0)
        self._scores = {}

    def state_dict(self) -> dict[str, Any]:
        """Logarithms of the weights, by the member's name, and what members have learned themselves."""
        return {
            "log_weights": dict(zip(self.reward_models, self.log_weights.tolist(), strict=True))
        } | super().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up those of the members that are still there."""
        super().load_state_dict(state)
        known = state["log_weights"]
        self.log_weights = torch.tensor([known.get(name, 0.0) for name in self.reward_models], dtype=torch.float64)
