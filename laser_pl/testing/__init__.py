"""What the library promises of its parts, to hold a part of your own to: each function raises AssertionError.

>>> from laser_pl.bandits import LinUCB
>>> from laser_pl.testing import check_bandit
>>> check_bandit(LinUCB)
"""

from laser_pl.testing.bandits import check_bandit
from laser_pl.testing.objectives import check_objective
from laser_pl.testing.reward_models import check_reward_model

__all__ = ["check_bandit", "check_objective", "check_reward_model"]
