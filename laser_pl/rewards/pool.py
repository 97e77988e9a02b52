"""All reward models of a run: asked by name, loaded when they are first asked, counted and timed."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import masked
from laser_pl.metrics.grader import Grader
from laser_pl.rewards.arm import refuse_circles
from laser_pl.rewards.asker import Asker
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.composite import named
from laser_pl.rewards.costs import Costs
from laser_pl.rewards.health import Health
from laser_pl.rewards.memory import Memory
from laser_pl.rewards.scores import Missing, as_tensor, labels
from laser_pl.runtime import progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a reward model said to one question.

    Attributes:
        labels: Finite scores, and NaN where there is none. Shape ``(B, n)``, float64, on the CPU.
        forwards: What it cost.
        missing: Labels it did not give, by kind.
        failure: Why it gave none, if that was a fault.
        seconds: Time for loading and scoring.
        spent: What it used up, see ``RewardModel.spent``.
    """

    labels: Tensor
    forwards: int = 0
    missing: Missing = field(default_factory=Counter)
    failure: str | None = None
    seconds: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)


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
        spent: What each reward model used up, see ``RewardModel.spent``.
        checked: Whether ``check`` has found nothing wrong.

    Raises:
        ConfigurationError: If one asks an arm that is not there, or in a circle itself.
    """

    def __init__(
        self, reward_models: Mapping[str, RewardModel], memory: Memory | None = None, health: Health | None = None
    ) -> None:
        self.reward_models = dict(reward_models)
        self.names = list(reward_models)
        for name, reward_model in self.reward_models.items():
            with named(name):
                reward_model.find_arms(self.reward_models)
        refuse_circles(self.reward_models)
        self.memory = memory or Memory(self.reward_models)
        self.health = health or Health(self.names)
        self.forwards = dict.fromkeys(self.names, 0)
        self.missing: dict[str, Missing] = {name: Counter() for name in self.names}
        self.seconds = 0.0
        self.spent: dict[str, dict[str, float]] = {}
        self.checked = False

    @property
    def costs(self) -> Costs:
        """What asking has cost so far."""
        missing = {name: dict(kinds) for name, kinds in self.missing.items()}
        return Costs(dict(self.forwards), missing, self.seconds)

    def grade_by(self, grader: Grader) -> None:
        """Let the reward models know what says how right a response is."""
        for reward_model in self.reward_models.values():
            reward_model.grade_by(grader)

    def asked_by(self, asker: Asker) -> None:
        """Let the reward models know who asks."""
        for reward_model in self.reward_models.values():
            reward_model.asked_by(asker)

    def check(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """Find mistakes that can be found without loading weights.

        Args:
            prompts: All that the reward models may be asked about.
            characters: See ``RewardModel.check_texts``.

        Raises:
            ConfigurationError: If a reward model is not what it is said to be, does not fit the memory, or cannot read
                what it would be asked about.
        """
        for reward_model in self.reward_models.values():
            reward_model.check()
        self.memory.check()
        for name in self.names:
            self.check_texts(name, prompts, characters)
        self.checked = True

    def check_texts(self, name: str, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """Find what one of them cannot read, see ``RewardModel.check_texts``."""
        with named(name):
            self.reward_models[name].check_texts(prompts, characters)

    def ask(
        self, name: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], device: torch.device
    ) -> Answer:
        """Labels of one reward model, which is loaded if it is not. Nothing is counted yet, see ``note``.

        Args:
            name: The reward model.
            prompts: ``B`` prompts; none is not worth loading it.
            responses: ``n`` responses to each.
            device: Where it is to run.

        Raises:
            ConfigurationError: If it breaks the contract: another shape, or no numbers.
        """
        if not prompts:
            return Answer(torch.empty(0, 0, dtype=torch.float64))
        shape = len(prompts), len(responses[0])
        model = self.reward_models[name]
        forwards = round(model.forwards(prompts, shape[1]))
        started, before = time.perf_counter(), dict(model.spent())
        failure = None
        try:
            self.memory.hold(name, device)
            with progress.task(f"scoring by {name}", "forwards", forwards or None):
                scores = model.score(prompts, responses)
        except ConfigurationError:
            raise
        except Exception as error:
            kind = "timeout" if isinstance(error, TimeoutError) else "exception"
            found, missing = torch.full(shape, float("nan"), dtype=torch.float64), Counter({kind: shape[0] * shape[1]})
            failure = masked(f"{type(error).__name__}: {error}")
        else:
            values = as_tensor(scores, shape, f"The reward model '{name}'")
            found, missing = labels(scores, values)
            if not found.isfinite().any() and missing.total() > missing["none"]:
                failure = f"no score is a finite number ({_in_words(missing)})"
        spent = {what: much - before.get(what, 0) for what, much in model.spent().items()}
        return Answer(found, forwards, missing, failure, time.perf_counter() - started, spent)

    def note(self, name: str, answers: Sequence[Answer]) -> None:
        """Count what a question has cost, and whether the reward model is well.

        Args:
            name: The reward model.
            answers: What it said, in every process that the question was dealt out to.
        """
        self.note_costs(name, answers)
        failures = [answer.failure for answer in answers if answer.failure is not None]
        if any(bool(answer.labels.isfinite().any()) for answer in answers):
            self.health.succeeded(name)
        elif failures:
            self.health.failed(name, failures[-1])
        for answer in answers:
            self._count(name, answer)

    def note_costs(self, name: str, answers: Sequence[Answer]) -> None:
        """Count what a question has cost, and no more."""
        self.forwards[name] += sum(answer.forwards for answer in answers)
        self.seconds += max(answer.seconds for answer in answers)
        for answer in answers:
            for what, much in answer.spent.items():
                total = self.spent.setdefault(name, {})
                total[what] = total.get(what, 0) + much

    def score(
        self, name: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], device: torch.device
    ) -> Tensor:
        """Ask and note.

        Returns:
            Finite scores, and NaN where there is none. Shape ``(B, n)``, float64, on the CPU.
        """
        answer = self.ask(name, prompts, responses, device)
        self.note(name, [answer])
        return answer.labels

    def _count(self, name: str, answer: Answer) -> None:
        reason = "" if answer.failure is None else f", {answer.failure}"
        for kind, count in answer.missing.items():
            if kind != "none" and not self.missing[name][kind]:
                log.warning("The reward model '%s' left %d responses without a label for the first time (%s%s). They"
                            " make no pairs.", name, count, kind, reason)  # fmt: skip
        self.missing[name] += answer.missing

    def state_dict(self) -> dict[str, Any]:
        """What was counted, and who is aside."""
        return {
            "forwards": dict(self.forwards),
            "missing": {name: dict(counts) for name, counts in self.missing.items()},
            "seconds": self.seconds,
            "spent": {name: dict(counts) for name, counts in self.spent.items()},
            "health": self.health.state_dict(),
            "learned": {name: model.state_dict() for name, model in self.reward_models.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting; what reward models cost that are gone by now was spent nevertheless."""
        self.forwards |= state["forwards"]
        self.missing |= {name: Counter(kinds) for name, kinds in state["missing"].items()}
        self.seconds = state["seconds"]
        self.spent = {name: dict(counts) for name, counts in state.get("spent", {}).items()}  # null in older ones
        self.health.load_state_dict(state["health"])
        for name, model in self.reward_models.items():
            if state["learned"].get(name):
                model.load_state_dict(state["learned"][name])


def _in_words(missing: Missing) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in missing.items())
