"""Reward models that only forbid."""

from __future__ import annotations

from dataclasses import dataclass

from laser_pl.rewards.base import RewardModel


@dataclass
class Constraint:
    """What a response must reach to be chosen, whichever arm judges (safety, format, language).

    A response that fails may still be rejected in a pair. One without a score fails: what is not known to be allowed is
    not.

    Attributes:
        reward_model: Scores responses.
        threshold: The score that must be reached.
    """

    reward_model: RewardModel
    threshold: float = 0.0
