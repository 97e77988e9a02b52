"""What every bandit offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Explanation:
    """Why an arm would be chosen: it is the one with the largest ``mean + bonus``.

    Attributes:
        mean: Expected reward of each arm. Shape ``(M, K)``, float64.
        bonus: What its uncertainty adds. Shape ``(M, K)``, float64.
    """

    mean: Tensor
    bonus: Tensor


class Bandit(ABC):
    """Chooses arms for contexts and learns from rewards.

    Made from configuration only; ``start`` says what there is to choose from. Batch-level selection asks with one
    context (``M = 1``), prompt-level selection with one per prompt (``M = B``).
    """

    arms: list[str]
    context_size: int
    generator: torch.Generator

    def check(self, arms: Sequence[str]) -> None:
        """Raise a ConfigurationError if the bandit cannot work with these arms."""

    def check_categories(self, categories: Sequence[str]) -> None:
        """Raise a ConfigurationError if it cannot choose for prompts of one of these categories."""

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin without knowledge.

        Args:
            arms: The arms' names.
            context_size: ``d``.
            seed: Root of the bandit's own randomness (ties, exploration).
        """
        self.arms = list(arms)
        self.context_size = context_size
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def takes_labels(self) -> bool:
        """Whether it begins with how often each arm orders responses rightly that people have compared."""
        return False

    def learn_labels(self, accuracy: Tensor) -> None:
        """Begin with that; only if it ``takes_labels``.

        Args:
            accuracy: Share of pairs that each arm ordered rightly; NaN where it has no opinion. Shape ``(K,)``.
        """

    def tell(self, iteration: int, categories: Sequence[str | None]) -> None:
        """What is known of the decisions to come besides their contexts. Baselines listen; who learns must not.

        Args:
            iteration: Counted from 0.
            categories: Of each context that is asked about next; None where its prompts have several. ``M`` of them.
        """

    @abstractmethod
    def select(self, contexts: Tensor) -> Tensor:
        """The arm for each context.

        Args:
            contexts: Shape ``(M, d)``.

        Returns:
            Indices into ``arms``. Shape ``(M,)``, int64.
        """

    def next_best(self, contexts: Tensor, available: Tensor) -> Tensor:
        """The arm to ask instead, for contexts whose selected arm cannot judge: the largest mean + bonus that is left.

        Args:
            contexts: Shape ``(M, d)``.
            available: Which arms may be asked. Shape ``(M, K)``, bool.

        Returns:
            Indices into ``arms``, -1 where none is left. Shape ``(M,)``, int64.
        """
        why = self.explain(contexts)
        values = (why.mean + why.bonus).masked_fill(~available, -torch.inf)
        return torch.where(available.any(-1), argmax_with_random_ties(values, self.generator), -1)

    def without_exploring(self, contexts: Tensor) -> Tensor:
        """The arms to use once learning is over, best first: by their expected rewards alone, whatever the bonus.

        Equal arms come in their own order. An arm that was never tried has the expectation it began with.

        Args:
            contexts: Shape ``(M, d)``.

        Returns:
            Indices into ``arms``, as many as may be used, K for bandits that learn. Shape ``(M, 1 to K)``, int64.
        """
        return self.explain(contexts).mean.argsort(dim=-1, descending=True, stable=True)

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Learn from rewards; a bandit that never learns ignores them.

        Args:
            contexts: Shape ``(M, d)``.
            arms: The arm each reward is about. Shape ``(M,)``, int64.
            rewards: Shape ``(M,)``.
        """

    def learn(self, contexts: Tensor, arms: Tensor, rewards: Tensor, rivals: Tensor) -> None:
        """Learn from rewards, knowing how each came about. Most bandits need not know, and ``update`` themselves.

        Args:
            contexts: Shape ``(O, d)``.
            arms: The arm each reward is about. Shape ``(O,)``, int64.
            rewards: Shape ``(O,)``.
            rivals: Which arms could have been observed there instead, itself included; where all were asked, nobody
                else; none, not even itself, where nobody but this arm could ever be observed. Shape ``(O, K)``, bool.
        """
        self.update(contexts, arms, rewards)

    def explain(self, contexts: Tensor) -> Explanation:
        """Mean and bonus of every arm; zeros for a bandit that has no opinion."""
        nothing = torch.zeros(len(contexts), len(self.arms), dtype=torch.float64)
        return Explanation(nothing, nothing)

    def state_dict(self) -> dict[str, Any]:
        """What was learned, as tensors and plain builtins; never hyperparameters."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""
        self.generator.set_state(state["generator"])


def argmax_with_random_ties(values: Tensor, generator: torch.Generator) -> Tensor:
    """The best column of each row, any of the best with equal probability.

    Args:
        values: Shape ``(M, K)``.
        generator: Decides ties.

    Returns:
        Shape ``(M,)``, int64.
    """
    best = (values == values.max(dim=-1, keepdim=True).values).double()  # (M, K)
    return torch.multinomial(best, 1, generator=generator).squeeze(-1)
