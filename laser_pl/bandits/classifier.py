"""A classifier that learns to name the best arm: the paper's baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.aligned import aligned
from laser_pl.bandits.base import Explanation, argmax_with_random_ties
from laser_pl.bandits.rivalry import Rivalry, positions_by_context

KEPT = 1000
"""So many labels, the newest, are learned from, so that neither a checkpoint nor a fit grows with the run."""


class Classifier(Rivalry):
    """Multinomial logistic regression from the context to the arm that was best there.

    It learns where the rewards of several arms at a context are known, as a check of all of them shows (``Trusted``,
    ``Cooling``, ``Majority``); arms that are equally good share the label. Until the first label it chooses at random,
    and afterwards it never explores. A label is about the arms that were there: it says nothing of one that gave no
    label, or that is new. The last 1,000 labels count.
    """

    def start(self, arms: Sequence[str], context_size: int, seed: int = 0) -> None:
        """Begin without a label."""
        super().start(arms, context_size, seed)
        self.contexts = torch.zeros(0, context_size, dtype=torch.float64)  # (t, d)
        self.labels = torch.zeros(0, len(self.arms), dtype=torch.float64)  # (t, K)  NaN: was not there
        self._weights: Tensor | None = None  # (K, d) of the labels so far, once they are asked for

    def select(self, contexts: Tensor) -> Tensor:
        """The likeliest arm of every context."""
        self.chosen_at = contexts.clone()
        return argmax_with_random_ties(self.explain(contexts).mean, self.generator)

    def learn(self, contexts: Tensor, arms: Tensor, rewards: Tensor, rivals: Tensor) -> None:
        """Keep the label of every context at which several arms were seen whoever was chosen."""
        asked = torch.nonzero(rivals.sum(-1) == 1).squeeze(-1)
        contexts, arms, rewards = contexts.double()[asked], arms[asked], rewards.double()[asked]
        for group in positions_by_context(contexts):
            values = torch.full((len(self.arms),), torch.nan, dtype=torch.float64)
            values[arms[group]] = rewards[group]
            there = values.isfinite()
            if int(there.sum()) < 2:
                continue
            best = (values == values[there].max()).double()
            label = torch.where(there, best / best.sum(), torch.nan)
            self.contexts = torch.cat([self.contexts, contexts[group[:1]]])[-KEPT:]
            self.labels = torch.cat([self.labels, label[None]])[-KEPT:]
            self._weights = None

    def explain(self, contexts: Tensor) -> Explanation:
        """Probabilities, and no bonus."""
        if self._weights is None:
            self._weights = logistic_regression(aligned(self.contexts), self.labels)
        mean = (aligned(contexts) @ self._weights.T).softmax(-1)
        return Explanation(mean, torch.zeros_like(mean))

    def state_dict(self) -> dict[str, Any]:
        """The contexts with their labels."""
        kept = {"contexts": self.contexts.clone(), "labels": self.labels.clone()}
        return {**super().state_dict(), "arms": list(self.arms), **kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the labels that arms won which are still there."""
        super().load_state_dict(state)
        column = {arm: state["labels"][:, k] for k, arm in enumerate(state["arms"])}
        absent = torch.full((len(state["labels"]),), torch.nan, dtype=torch.float64)
        labels = torch.stack([column.get(arm, absent) for arm in self.arms], dim=-1)
        won = labels.nansum(-1, keepdim=True)  # less than 1 where an arm is gone that was among the best
        known = won.squeeze(-1) > 0
        self.contexts = aligned(state["contexts"][known])
        self.labels = torch.where(won[known] < 1, labels[known] / won[known], labels[known])
        self._weights = None
        self.chosen_at = None


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
