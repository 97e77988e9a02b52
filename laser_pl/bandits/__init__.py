"""Contextual bandits: which arm (reward model) for which context."""

from laser_pl.bandits.base import Bandit, Explanation
from laser_pl.bandits.baselines import Fixed, Oracle, RoundRobin, Uniform
from laser_pl.bandits.classifier import Classifier
from laser_pl.bandits.drifting import DiscountedLinUCB, SlidingWindowLinUCB
from laser_pl.bandits.epsilon_greedy import EpsilonGreedy
from laser_pl.bandits.exp3 import Exp3
from laser_pl.bandits.linucb import LinUCB
from laser_pl.bandits.thompson import Thompson
from laser_pl.bandits.ucb1 import UCB1

__all__ = [
    "UCB1",
    "Bandit",
    "Classifier",
    "DiscountedLinUCB",
    "EpsilonGreedy",
    "Exp3",
    "Explanation",
    "Fixed",
    "LinUCB",
    "Oracle",
    "RoundRobin",
    "SlidingWindowLinUCB",
    "Thompson",
    "Uniform",
]
