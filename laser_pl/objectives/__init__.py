"""What a policy minimises, by class path: ``model.objective: laser_pl.objectives.Ipo``."""

from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.objectives.dpo import Dpo, LengthNormalisedDpo, RobustDpo
from laser_pl.objectives.hinge import Hinge
from laser_pl.objectives.ipo import Ipo
from laser_pl.objectives.pairs import PairObjective
from laser_pl.objectives.simpo import SimPo

__all__ = [
    "Dpo",
    "Hinge",
    "Ipo",
    "LengthNormalisedDpo",
    "LossInputs",
    "LossOutputs",
    "Objective",
    "PairObjective",
    "RobustDpo",
    "SimPo",
]
