"""Lightning callbacks: reward selection, run record, checkpoints."""

import sys

from laser_pl import moved
from laser_pl.callbacks.reward_selection import RewardSelection

__all__ = ["RewardSelection"]

if __name__ == moved.CALLBACKS:  # the folder as it lies in a checkout, by its old name: no second copy of its classes
    __path__ = []
    moved.OldNames(moved.CALLBACKS).exec_module(sys.modules[__name__])
