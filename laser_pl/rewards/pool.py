"""All reward models of a run: asked by name, loaded when they are first asked, counted and timed."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.costs import Costs
from laser_pl.rewards.health import Health
from laser_pl.rewards.memory import Memory
from laser_pl.rewards.scores import Missing, as_tensor, labels

log = logging.getLogger(__name__)


class Pool:
    """Scores by name, and counts what that costs and what went wrong.

    A reward model that raises, answers late, or returns NaN or infinite scores costs the responses it was asked about
    their labels, and nothing else.

    Args:
        reward_models: By name.
        memory: What holds them; null holds all.
        health: Who learns of their failures; null for one with the usual patience.

    Attributes:
        forwards: Forwards of each reward model so far; an ensemble's are those of its members.
        missing: Labels it did not give, by kind (see ``laser_pl.rewards.scores.Missing``).
        seconds: Time spent in loading and scoring.
    """

    def __init__(
        self, reward_models: Mapping[str, RewardModel], memory: Memory | None = None, health: Health | None = None
    ) -> None:
        self.reward_models = dict(reward_models)
        self.names = list(reward_models)
        self.memory = memory or Memory(self.reward_models)
        self.health = health or Health(self.names)
        self.forwards = dict.fromkeys(self.names, 0)
        self.missing: dict[str, Missing] = {name: Counter() for name in self.names}
        self.seconds = 0.0

    @property
    def costs(self) -> Costs:
        """What asking has cost so far."""
        missing = {name: dict(kinds) for name, kinds in self.missing.items()}
        return Costs(dict(self.forwards), missing, self.seconds)

    def check(self) -> None:
        """Find mistakes that can be found without loading weights.

        Raises:
            ConfigurationError: If a reward model is not what it is said to be, or does not fit the memory.
        """
        for reward_model in self.reward_models.values():
            reward_model.check()
        self.memory.check()

    def score(
        self, name: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], device: torch.device
    ) -> Tensor:
        """Labels of one reward model, which is loaded if it is not.

        Returns:
            Finite scores, and NaN where there is none. Shape ``(B, n)``, float64, on the CPU.

        Raises:
            ConfigurationError: If it breaks the contract: another shape, or no numbers.
        """
        shape = len(prompts), len(responses[0])
        started = time.perf_counter()
        self.forwards[name] += round(shape[0] * shape[1] * self.reward_models[name].forwards_per_response(shape[1]))
        try:
            self.memory.hold(name, device)
            scores = self.reward_models[name].score(prompts, responses)
        except ConfigurationError:
            raise
        except Exception as error:
            kind = "timeout" if isinstance(error, TimeoutError) else "exception"
            found, missing = torch.full(shape, float("nan"), dtype=torch.float64), Counter({kind: shape[0] * shape[1]})
            self.health.failed(name, f"{type(error).__name__}: {error}")
        else:
            values = as_tensor(scores, shape, f"The reward model '{name}'")
            found, missing = labels(scores, values)
            if found.isfinite().any():
                self.health.succeeded(name)
            elif missing.total() > missing["none"]:
                self.health.failed(name, f"no score is a finite number ({_in_words(missing)})")
        finally:
            self.seconds += time.perf_counter() - started
        self._count(name, missing)
        return found

    def _count(self, name: str, missing: Missing) -> None:
        for kind in missing:
            if kind != "none" and not self.missing[name][kind]:
                log.warning("The reward model '%s' left %d responses without a label for the first time (%s). They make"
                            " no pairs.", name, missing[kind], kind)  # fmt: skip
        self.missing[name] += missing

    def state_dict(self) -> dict[str, Any]:
        """What was counted, and who is aside."""
        return {
            "forwards": dict(self.forwards),
            "missing": {name: dict(counts) for name, counts in self.missing.items()},
            "seconds": self.seconds,
            "health": self.health.state_dict(),
            "learned": {name: model.state_dict() for name, model in self.reward_models.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting, for the reward models that are still there."""
        self.forwards |= {name: count for name, count in state["forwards"].items() if name in self.forwards}
        self.missing |= {name: Counter(kinds) for name, kinds in state["missing"].items() if name in self.missing}
        self.seconds = state["seconds"]
        self.health.load_state_dict(state["health"])
        for name, model in self.reward_models.items():
            if state["learned"].get(name):
                model.load_state_dict(state["learned"][name])


def _in_words(missing: Missing) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in missing.items())
