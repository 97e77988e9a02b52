"""Reward models made of reward models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.metrics.grader import Grader
from laser_pl.rewards.asker import Asker
from laser_pl.rewards.base import RewardModel


class Composite(RewardModel):
    """Checks, loads and unloads its members together. All of them are in memory at once.

    Args:
        reward_models: The members, by name.
    """

    def __init__(self, reward_models: Mapping[str, RewardModel]) -> None:
        if not reward_models:
            raise ConfigurationError(f"{type(self).__name__} has no members. Name some under its reward_models.")
        self.reward_models = dict(reward_models)

    @property
    def members(self) -> Sequence[RewardModel]:
        """The reward models it is made of."""
        return list(self.reward_models.values())

    def grade_by(self, grader: Grader) -> None:
        """Hand it on to all of them."""
        for member in self.members:
            member.grade_by(grader)

    def asked_by(self, asker: Asker) -> None:
        """Let the members know."""
        for member in self.members:
            member.asked_by(asker)

    def learners(self) -> list[RewardModel]:
        """Itself and those of all of them."""
        return [self, *(learner for member in self.members for learner in member.learners())]

    def arms(self) -> list[str]:
        """Those of all of them."""
        return list(dict.fromkeys(name for member in self.members for name in member.arms()))

    def find_arms(self, arms: Mapping[str, RewardModel]) -> None:
        """Let all of them look."""
        for member in self.members:
            member.find_arms(arms)

    def check(self) -> None:
        """Check all of them."""
        for member in self.members:
            member.check()

    def check_categories(self, categories: Sequence[str]) -> None:
        """Check all of them."""
        for member in self.members:
            member.check_categories(categories)

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """Let all of them look."""
        for name, member in self.reward_models.items():
            with named(name):
                member.check_texts(prompts, characters)

    def size(self) -> int:
        """Bytes of all of them."""
        return sum(member.size() for member in self.members)

    def spent(self) -> Mapping[str, float]:
        """That of all of them."""
        total: Counter[str] = Counter()
        for member in self.members:
            total.update(member.spent())
        return total

    def load(self, device: torch.device) -> None:
        """Load all of them."""
        for member in self.members:
            member.load(device)

    def offload(self) -> None:
        """Offload all of them."""
        for member in self.members:
            member.offload()

    def unload(self) -> None:
        """Unload all of them."""
        for member in self.members:
            member.unload()

    def state_dict(self) -> dict[str, Any]:
        """What members have learned, by their names."""
        states = {name: member.state_dict() for name, member in self.reward_models.items()}
        known = {name: state for name, state in states.items() if state}
        return {"members": known} if known else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give it back to those that are still there."""
        for name, known in state.get("members", {}).items():
            if name in self.reward_models:
                self.reward_models[name].load_state_dict(known)


@contextmanager
def named(name: str) -> Iterator[None]:
    """A block whose mistakes are a reward model's."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"The reward model '{name}' cannot be used. {error}") from error
