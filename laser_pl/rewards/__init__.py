"""Reward models: anything that scores responses, behind one contract."""

from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.by_category import ByCategory
from laser_pl.rewards.classifier import SequenceClassifier
from laser_pl.rewards.function import FunctionReward
from laser_pl.rewards.likelihood import Likelihood
from laser_pl.rewards.pool import Pool

__all__ = ["ByCategory", "FunctionReward", "Likelihood", "Pool", "RewardModel", "SequenceClassifier"]
