"""The selection in TRL: a reward function and a callback for ``GRPOTrainer`` and ``RLOOTrainer``."""

from laser_pl.integrations.trl.callback import SelectionCallback
from laser_pl.integrations.trl.selected import SelectedReward

__all__ = ["SelectedReward", "SelectionCallback"]
