"""The worlds of the study, and the pools of reward models in them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for experiments.*, and so that the code around this file is what runs

Arms = dict[str, Any]
"""``selection.reward_models`` as a config has it."""


@dataclass(frozen=True)
class World:
    """One world.

    Attributes:
        config: Its base configuration, one reward model for a batch of one category.
        per_prompt: The overlay for one reward model a prompt, in mixed batches.
        right: The right specialist of each category.
        late: An arm that the pool ``late`` gets half-way.
    """

    config: str
    per_prompt: str
    right: dict[str, str]
    late: str

    @property
    def arms(self) -> Arms:
        """The arms of its configuration."""
        arms: Arms = yaml.safe_load((ROOT / self.config).read_text(encoding="utf-8"))["selection"]["reward_models"]
        return arms


WORLDS = {
    "quickstart": World(
        "experiments/quickstart.yaml",
        "experiments/quickstart/per_prompt.yaml",
        {"addition": "numbers", "comparing": "numbers", "sorting": "sorter", "reversing": "mirror"},
        late="sorter",
    ),
    "second": World(
        "experiments/second_world.yaml",
        "experiments/second_world/per_prompt.yaml",
        {
            "following": "bookmark",
            "rounding": "ruler",
            "shifting": "letters",
            "vowels": "letters",
            "clock": "timetable",
        },
        late="timetable",
    ),
    "third": World(
        "experiments/third_world.yaml",
        "experiments/third_world/per_prompt.yaml",
        {"odd": "thesaurus", "count": "thesaurus", "largest": "abacus", "longest": "wordy", "order": "scanner"},
        late="abacus",
    ),
}


def of_class(name: str, **init_args: Any) -> dict[str, Any]:
    """A class as configs write it."""
    return {"class_path": name, "init_args": init_args}


def inverted(arm: dict[str, Any]) -> dict[str, Any]:
    """An arm that wants the opposite of another."""
    return of_class("experiments.study.adverse.Inverted", reward_model=arm)


def noisy(arms: Arms, noise: float) -> Arms:
    """All arms behind noise of their own."""
    noise_of = "experiments.study.adverse.Noisy"
    return {
        name: of_class(noise_of, reward_model=arm, noise=noise, seed=seed)
        for seed, (name, arm) in enumerate(arms.items())
    }


def yes_man(world: World) -> dict[str, Any]:
    """The likelihood under the policy that training starts from: it likes what the policy likes."""
    policy = yaml.safe_load((ROOT / world.config).read_text(encoding="utf-8"))["model"]["weights"]
    return of_class("laser_pl.rewards.Likelihood", weights=policy, reduction="sum")


def some(arms: Arms, *names: str) -> Arms:
    """Some of the arms."""
    return {name: arms[name] for name in names}


# Every pool of the quickstart's world, from its arms.
POOLS: dict[str, Callable[[World], Arms]] = {
    "base": lambda world: world.arms,
    "inverted": lambda world: {**world.arms, "inverted": inverted(world.arms[world.late])},
    "yes_man": lambda world: {**world.arms, "yes_man": yes_man(world)},
    "random_arm": lambda world: {**world.arms, "random": of_class("experiments.study.adverse.Random")},
    "noise_0.1": lambda world: noisy(world.arms, 0.1),
    "noise_0.3": lambda world: noisy(world.arms, 0.3),
    "noise_1.0": lambda world: noisy(world.arms, 1.0),
    "k2": lambda world: some(world.arms, "numbers", "sorter"),
    "k4": lambda world: some(world.arms, "numbers", "sorter", "mirror", "longer"),
    "k8": lambda world: {
        **world.arms,
        "inverted": inverted(world.arms["mirror"]),
        "yes_man": yes_man(world),
        "random": of_class("experiments.study.adverse.Random"),
    },
    "late": lambda world: world.arms,
}
