"""Reward models: anything that scores responses, behind one contract."""

from laser_pl.rewards.arm import Arm
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.by_category import ByCategory
from laser_pl.rewards.chat_judge import ChatJudge
from laser_pl.rewards.classifier import SequenceClassifier
from laser_pl.rewards.constraints import Constraint
from laser_pl.rewards.ensemble import AgreementEnsemble, CautiousEnsemble, MeanEnsemble, MinEnsemble
from laser_pl.rewards.function import FunctionReward
from laser_pl.rewards.implicit import ImplicitReward
from laser_pl.rewards.likelihood import Likelihood
from laser_pl.rewards.online_ensemble import OnlineEnsemble
from laser_pl.rewards.pairwise_judge import PairwiseJudge
from laser_pl.rewards.pointwise_judge import PointwiseJudge
from laser_pl.rewards.pool import Pool
from laser_pl.rewards.remote import RemoteReward
from laser_pl.rewards.verifier import Verifier
from laser_pl.rewards.weighted_ensemble import WeightedEnsemble

__all__ = [
    "AgreementEnsemble",
    "Arm",
    "ByCategory",
    "CautiousEnsemble",
    "ChatJudge",
    "Constraint",
    "FunctionReward",
    "ImplicitReward",
    "Likelihood",
    "MeanEnsemble",
    "MinEnsemble",
    "OnlineEnsemble",
    "PairwiseJudge",
    "PointwiseJudge",
    "Pool",
    "RemoteReward",
    "RewardModel",
    "SequenceClassifier",
    "Verifier",
    "WeightedEnsemble",
]
