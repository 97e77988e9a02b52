"""A classifier that learns to name the best arm: the paper's baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.aligned import aligned
from laser_pl.bandits.base import Bandit, Explanation, argmax_with_random_ties
from laser_pl.bandits.full_information import full_information


class Classifier(Bandit):
    """Multinomial logistic regression from the context to the arm that was best there.

    It learns where all arms' rewards at a context are known, as a check of all of them tells (``Trusted``, ``Cooling``,
    ``Majority``); arms that are equally good share the label. Until the first label it chooses at random, and
    afterwards it never explores. A label is about the arms that were there: it says nothing of an arm that is new.
    """

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin without a label."""
        super().start(arms, context_size, seed)
        self.contexts = torch.zeros(0, context_size, dtype=torch.float64)  # (t, d)
        self.labels = torch.zeros(0, len(self.arms), dtype=torch.float64)  # (t, K)  NaN: was not there
        self._weights: Tensor | None = None  # (K, d) of the labels so far, once they are asked for

    def select(self, contexts: Tensor) -> Tensor:
        """The likeliest arm of every context."""
        return argmax_with_random_ties(self.explain(contexts).mean, self.generator)

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        """Keep the label of every context at which all are known."""
        whole = full_information(contexts, arms, len(self.arms))  # (G, K)
        values = rewards.double()[whole]
        best = (values == values.amax(-1, keepdim=True)).double()
        self.contexts = torch.cat([self.contexts, contexts.double()[whole[:, 0]]])
        self.labels = torch.cat([self.labels, best / best.sum(-1, keepdim=True)])
        self._weights = None

    def explain(self, contexts: Tensor) -> Explanation:
        """Probabilities, and no bonus."""
        if self._weights is None:
            self._weights = logistic_regression(self.contexts, self.labels)
        mean = (aligned(contexts) @ self._weights.T).softmax(-1)
        return Explanation(mean, torch.zeros_like(mean))

    def state_dict(self) -> dict[str, Any]:
        """All contexts with their labels."""
        return {**super().state_dict(), "arms": list(self.arms), "contexts": self.contexts, "labels": self.labels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the labels that arms won which are still there."""
        super().load_state_dict(state)
        column = {arm: state["labels"][:, k] for k, arm in enumerate(state["arms"])}
        absent = torch.full((len(state["labels"]),), torch.nan, dtype=torch.float64)
        labels = torch.stack([column.get(arm, absent) for arm in self.arms], dim=-1)
        won = labels.nansum(-1, keepdim=True)  # less than 1 where an arm is gone that was among the best
        known = won.squeeze(-1) > 0
        self.contexts = state["contexts"][known]
        self.labels = torch.where(won[known] < 1, labels[known] / won[known], labels[known])
        self._weights = None


def logistic_regression(contexts: Tensor, labels: Tensor) -> Tensor:
    """Weights with the least cross-entropy plus half their squares, by L-BFGS.

    Args:
        contexts: Shape ``(t, d)``, float64.
        labels: Shares of each class, rows that sum to 1; NaN where there was no such class. Shape ``(t, K)``, float64.

    Returns:
        Shape ``(K, d)``; zeros without a label.
    """
    weights = torch.zeros(labels.shape[-1], contexts.shape[-1], dtype=torch.float64, requires_grad=True)
    if len(contexts) == 0:
        return weights.detach()
    there = labels.isfinite()
    optimizer = torch.optim.LBFGS([weights], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        with torch.enable_grad():
            logits = (contexts @ weights.T).masked_fill(~there, -torch.inf)
            log_chance = logits.log_softmax(-1).masked_fill(~there, 0.0)
            loss = weights.square().sum() / 2 - (labels.nan_to_num() * log_chance).sum()
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()
