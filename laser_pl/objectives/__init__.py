"""What a policy minimises, by class path: ``model.objective: laser_pl.objectives.Ipo``."""

from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.objectives.dpo import Dpo, LengthNormalisedDpo, RobustDpo, dpo_loss
from laser_pl.objectives.frozen import Frozen
from laser_pl.objectives.hinge import Hinge
from laser_pl.objectives.ipo import Ipo
from laser_pl.objectives.nll import nll_loss
from laser_pl.objectives.pairs import PairObjective, mean_per_prompt
from laser_pl.objectives.policy_gradient import PolicyGradient, advantages
from laser_pl.objectives.simpo import SimPo
from laser_pl.objectives.supervised import Supervised

__all__ = [
    "Dpo",
    "Frozen",
    "Hinge",
    "Ipo",
    "LengthNormalisedDpo",
    "LossInputs",
    "LossOutputs",
    "Objective",
    "PairObjective",
    "PolicyGradient",
    "RobustDpo",
    "SimPo",
    "Supervised",
    "advantages",
    "dpo_loss",
    "mean_per_prompt",
    "nll_loss",
]
