"""Lightning callbacks: reward selection, run record, checkpoints."""

from callbacks.reward_selection import RewardSelection

__all__ = ["RewardSelection"]
