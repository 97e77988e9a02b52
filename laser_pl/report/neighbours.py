"""Earlier decisions about similar prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from laser_pl.report.contexts import Seen
from laser_pl.report.series import mean


@dataclass(frozen=True)
class Neighbour:
    """An earlier decision.

    Attributes:
        seen: The decision and its prompts.
        similarity: Cosine of the two contexts.
    """

    seen: Seen
    similarity: float


@dataclass(frozen=True)
class Experience:
    """How an arm did on some decisions.

    Attributes:
        judged: How many it judged.
        rewards: What the bandit learned of it there.
    """

    judged: int
    rewards: Sequence[float]

    @property
    def reward(self) -> float:
        """On average; NaN if nothing was learned."""
        return mean(self.rewards)


def nearest(one: Seen, earlier: Sequence[Seen], count: int) -> list[Neighbour]:
    """The most similar of the earlier decisions, the most similar first.

    Args:
        one: The decision in question.
        earlier: Those before its step.
        count: How many.
    """
    if not earlier:
        return []
    contexts = torch.stack([seen.context for seen in earlier])  # (N, d)
    similarity = torch.cosine_similarity(contexts, one.context[None], dim=-1)  # (N,)
    best = similarity.topk(min(count, len(earlier)))
    return [Neighbour(earlier[i], s) for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def experience(arm: str, seen: Sequence[Seen]) -> Experience:
    """How an arm did on some decisions."""
    rewards = [(one.decision.get("reward") or {}).get(arm) for one in seen]
    return Experience(
        sum(one.decision["arm"] == arm for one in seen), [reward for reward in rewards if reward is not None]
    )
