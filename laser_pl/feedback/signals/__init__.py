"""What a trained batch says about the reward models that scored it."""

from laser_pl.feedback.signals.advantage import Advantage
from laser_pl.feedback.signals.base import Signal
from laser_pl.feedback.signals.cooling import Cooling
from laser_pl.feedback.signals.few_answers import FewAnswers
from laser_pl.feedback.signals.gap import Gap
from laser_pl.feedback.signals.loss import Dpo, Loss, Nll
from laser_pl.feedback.signals.majority import Majority
from laser_pl.feedback.signals.probe import ProbeGain
from laser_pl.feedback.signals.trusted import Trusted

__all__ = [
    "Advantage",
    "Cooling",
    "Dpo",
    "FewAnswers",
    "Gap",
    "Loss",
    "Majority",
    "Nll",
    "ProbeGain",
    "Signal",
    "Trusted",
]
