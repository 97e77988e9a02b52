"""What every reward model offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import PairIndices, Prompt
from laser_pl.metrics.grader import Grader
from laser_pl.rewards.asker import Asker

Scores = Tensor | Sequence[Sequence[float | None]]
"""Scores of ``B`` prompts' ``n`` responses, higher is better: a tensor ``(B, n)`` or lists of that shape.

None, in a list, is no opinion, which is no fault. NaN and infinite scores are faults; they are counted and dropped.
"""


class RewardModel(ABC):
    """Scores responses. Has its own tokenizer, template and length limit; sees text, never the policy's tokens.

    Only ``score`` has to be written. A reward model that holds weights says how many, and gives them back when asked.
    """

    def grade_by(self, grader: Grader) -> None:
        """Learn what says how right a response is, ``model.matcher``; called before ``check``."""

    def asked_by(self, asker: Asker) -> None:
        """Learn who asks, before the first ``score``; reward functions see and log what TRL lets them."""

    def check(self) -> None:
        """Find mistakes that can be found without loading weights; called before the first rollout.

        Raises:
            ConfigurationError: If what is configured is no such reward model.
        """

    def check_categories(self, categories: Sequence[str]) -> None:
        """Raise a ConfigurationError if prompts of one of these categories cannot be judged."""

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """Find texts that it cannot read; called after ``check``, before the first rollout.

        Args:
            prompts: All that it may be asked about.
            characters: What responses can be made of, each character once; takes a while to find out.

        Raises:
            ConfigurationError: If it would fail on one of them.
        """

    def arms(self) -> list[str]:
        """Names of the arms that it asks, see ``Arm``."""
        return []

    def find_arms(self, arms: Mapping[str, RewardModel]) -> None:
        """Find them among all arms; called when these are put together.

        Raises:
            ConfigurationError: If one is not there.
        """

    def size(self) -> int:
        """Bytes of weights it holds when it is loaded; known without loading them."""
        return 0

    def forwards_per_response(self, n: int) -> float:
        """What scoring costs: forwards of a network, or calls, for one of ``n`` responses to a prompt."""
        return 1.0

    def forwards(self, prompts: Sequence[Prompt], n: int) -> float:
        """What scoring ``n`` responses to each of these prompts costs."""
        return len(prompts) * n * self.forwards_per_response(n)

    def spent(self) -> Mapping[str, float]:
        """What asking has used up since it was made, by what is counted (tokens, money); beside time and forwards."""
        return {}

    def load(self, device: torch.device) -> None:
        """Get ready to score on ``device``: before the first ``score``, and after ``offload`` or ``unload``.

        Raises:
            ConfigurationError: If what is configured is no such reward model.
        """

    def offload(self) -> None:
        """Free the device's memory; what is kept in the host's makes the next ``load`` fast."""
        self.unload()

    def unload(self) -> None:
        """Free the memory of the weights."""

    @abstractmethod
    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Scores, higher is better.

        An exception is a fault that may pass: it is counted and costs these responses their labels, no more. A
        ConfigurationError is a mistake in the set-up, and ends the run.

        Args:
            prompts: ``B`` prompts, as the data set has them.
            responses: ``n`` responses to each.

        Returns:
            Shape ``(B, n)``.
        """

    def learners(self) -> list[RewardModel]:
        """Those who take lessons: itself, and of what is made of others, these too."""
        return [self]

    def lessons(
        self,
        prompts: Sequence[Prompt],
        pairs: PairIndices,
        rewards: Tensor,
        responses: Sequence[Sequence[str]] | None = None,
    ) -> dict[int, Tensor]:
        """What came of its judgement, for ``learn``. Reward models that stay as they are have nothing to say.

        Args:
            prompts: ``B`` prompts, of which it judged some.
            pairs: What was trained.
            rewards: What the bandit learned of it on each prompt; NaN where it did not judge. Shape ``(B,)``.
            responses: ``n`` responses to each prompt; null where each prompt comes in the order in which it was asked
                about.

        Returns:
            By row, for prompts that were judged in this process.
        """
        return {}

    def learn(self, lessons: dict[int, Tensor]) -> None:
        """Take in the lessons of all processes, by row. It comes after every training step, if with no lesson."""

    def state_dict(self) -> dict[str, Any]:
        """What it has learned, as tensors and plain builtins; never weights that are configured."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""
