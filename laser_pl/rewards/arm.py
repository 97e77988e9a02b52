"""An arm of the selection as a member of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps
from laser_pl.rewards.base import RewardModel, Scores


class Arm(RewardModel):
    """Another reward model of the selection, by its name.

    An ensemble of arms holds no weights twice. It is checked, loaded and counted as the arm that it is; a forward for
    an ensemble counts as the ensemble's.

    Args:
        name: The arm, a key of ``selection.reward_models``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._model: RewardModel | None = None

    @property
    def model(self) -> RewardModel:
        """The reward model of that name.

        Raises:
            ConfigurationError: Where nothing has other arms, as a judge of ``winrate``.
        """
        if self._model is None:
            raise ConfigurationError(
                f"An Arm stands for '{self.name}' of selection.reward_models, and there are no others here. Write the"
                " reward model itself."
            )
        return self._model

    def check(self) -> None:
        """See that it is there; what it is made of is checked as an arm."""
        assert self.model is not None

    def arms(self) -> list[str]:
        """Its name."""
        return [self.name]

    def find_arms(self, arms: Mapping[str, RewardModel]) -> None:
        """Find it."""
        if self.name not in arms:
            advice = perhaps(closest(self.name, arms), f"There are {', '.join(arms)}.")
            raise ConfigurationError(
                f"An Arm names '{self.name}', which selection.reward_models does not have.{advice}"
            )
        self._model = arms[self.name]

    def forwards_per_response(self, n: int) -> float:
        """The arm's."""
        return self.model.forwards_per_response(n)

    def forwards(self, prompts: Sequence[Prompt], n: int) -> float:
        """The arm's."""
        return self.model.forwards(prompts, n)

    def spent(self) -> Mapping[str, float]:
        """The arm's, of whose difference before and after a question an ensemble is made."""
        return self.model.spent()

    def load(self, device: torch.device) -> None:
        """Nothing: who holds this holds the arm before, see ``Memory``."""

    def learners(self) -> list[RewardModel]:
        """None: the arm takes its own lessons."""
        return []

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """The arm's scores."""
        return self.model.score(prompts, responses)


def refuse_circles(models: Mapping[str, RewardModel]) -> None:
    """See that no arm is made of itself.

    Raises:
        ConfigurationError: If one is, which names the way around.
    """

    def follow(way: list[str]) -> None:
        for name in models[way[-1]].arms():
            if name in way:
                circle = " -> ".join([*way[way.index(name) :], name])
                raise ConfigurationError(f"Reward models are made of one another in a circle: {circle}.")
            follow([*way, name])

    for name in models:
        follow([name])
