"""What reward models that only forbid say of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.constraints import Constraint
from laser_pl.selection.panel import Panel


@dataclass(frozen=True)
class Allowed:
    """What the constraints left.

    Attributes:
        responses: Which may be chosen. Shape ``(B, n)``, bool.
        forbidden: How many each constraint forbids, by its name.
        unchecked: Why training cannot go on, if a constraint cannot be checked.
        lost: Of which prompts' responses one said nothing for a fault. Shape ``(B,)``, bool.
    """

    responses: Tensor
    forbidden: dict[str, int]
    unchecked: str | None
    lost: Tensor


class Verdicts:
    """How many responses each constraint looked at and how many failed, by category."""

    def __init__(self) -> None:
        self.looked_at: dict[str, Counter[str]] = {}
        self.failed: dict[str, Counter[str]] = {}

    def note(self, name: str, prompts: Sequence[Prompt], passed: Tensor) -> None:
        """Take in a batch. ``passed`` has shape ``(B, n)``, bool."""
        looked_at, failed = (counts.setdefault(name, Counter()) for counts in (self.looked_at, self.failed))
        for prompt, row in zip(prompts, passed, strict=True):
            looked_at[prompt.category] += len(row)
            failed[prompt.category] += int((~row).sum())

    def as_dict(self) -> dict[str, dict[str, dict[str, int]]]:
        """Constraint to category to counts."""
        return {
            name: {
                category: {"responses": count, "failed": self.failed[name][category]}
                for category, count in sorted(counts.items())
            }
            for name, counts in self.looked_at.items()
        }

    def load(self, counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        """Go on from what ``as_dict`` gave."""
        for name, categories in counts.items():
            self.looked_at[name] = Counter({category: c["responses"] for category, c in categories.items()})
            self.failed[name] = Counter({category: c["failed"] for category, c in categories.items()})


def allowed_by(
    constraints: Mapping[str, Constraint],
    panel: Panel,
    prompts: Sequence[Prompt],
    texts: Sequence[Sequence[str]],
    verdicts: Verdicts,
) -> Allowed:
    """Ask every constraint about every response.

    Args:
        constraints: By name.
        panel: Asks their reward models.
        prompts: ``B`` prompts.
        texts: ``n`` responses to each.
        verdicts: Counts what is found.
    """
    allowed = torch.ones(len(prompts), len(texts[0]), dtype=torch.bool)
    lost = torch.zeros(len(prompts), dtype=torch.bool)
    forbidden, unchecked = {}, None
    for name, constraint in constraints.items():
        labels = panel.ask(name, prompts, texts, range(len(prompts)))
        passed = labels.scores >= constraint.threshold  # NaN is not
        if labels.failed:
            lost |= ~labels.scores.isfinite().any(-1)
        verdicts.note(name, prompts, passed)
        forbidden[name] = int((~passed).sum())
        allowed &= passed
        if not panel.pool.health.may_be_asked(name):
            unchecked = f"The constraint '{name}' cannot be checked; {panel.pool.health.last_reason}."
    return Allowed(allowed, forbidden, unchecked, lost)


def refuse_shared_names(arms: Sequence[str], constraints: Sequence[str]) -> None:
    """See that there are reward models, and that each name is one thing's.

    Raises:
        ConfigurationError: If not.
    """
    if not arms:
        raise ConfigurationError("selection.reward_models is empty. Name at least one reward model.")
    both = sorted(set(arms) & set(constraints))
    if both:
        raise ConfigurationError(
            f"'{both[0]}' names a reward model and a constraint. Give one of them, under selection, another name."
        )
