"""Contextual bandits: which arm (reward model) for which context."""

from laser_pl.bandits.base import Bandit, Explanation
from laser_pl.bandits.baselines import Fixed, RoundRobin, Uniform
from laser_pl.bandits.linucb import LinUCB

__all__ = ["Bandit", "Explanation", "Fixed", "LinUCB", "RoundRobin", "Uniform"]
