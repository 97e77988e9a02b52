"""What is kept of every choice of a reward model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.base import Explanation
from laser_pl.batches import LOSS, LabelledBatch, Prompt, PromptLosses
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.observations import Observations
from laser_pl.rewards.costs import Costs
from laser_pl.run.files import ended_lines
from laser_pl.selection.fallback import Judgement, Outcome


@dataclass
class Decision:
    """One line of ``selection.jsonl``: which arm for which prompts, why, and what came of it.

    Attributes:
        iteration: Counted from 0.
        step: The training step, counted from 0 over the run.
        prompt_ids: The prompts it was made for: a batch's, or one.
        category: Their category; null for a mixed batch.
        arm: The reward model that judged.
        passed_over: Those whose turn came before but were aside, gave no label, or distinguished no responses.
        mean: The bandit's expected reward of each arm.
        bonus: Its exploration bonus of each arm.
        pairs: Preference pairs made; null where the objective takes scores.
        prompts_without_pairs: Prompts for which none could be made: whose responses nobody distinguished.
        forbidden: Responses that failed each constraint, of the whole batch.
        reward_model_seconds: Time for loading and scoring, of the whole batch.
        reward_model_forwards: Forwards of each reward model, of the whole batch.
        missing: Labels that reward models did not give, by kind, of the whole batch.
        loss: Mean training loss over the prompts that have one; null if none has.
        parts: The parts of it by name, unweighted; in the file beside it, under their names.
        observed: What the signal said of each arm, unscaled.
        reward: What the bandit learned of each arm.
        tied: Those passed over whose labels distinguished no responses: the scores tied, or lay within ``min_margin``.
    """

    iteration: int
    step: int
    prompt_ids: list[str]
    category: str | None
    arm: str
    passed_over: list[str]
    mean: dict[str, float]
    bonus: dict[str, float]
    pairs: int | None
    prompts_without_pairs: int
    forbidden: dict[str, int]
    reward_model_seconds: float
    reward_model_forwards: dict[str, int]
    missing: dict[str, dict[str, int]]
    loss: float | None = None
    parts: dict[str, float | None] = field(default_factory=dict)
    observed: dict[str, float] | None = None
    reward: dict[str, float] | None = None
    tied: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Builtins only, for JSON."""
        line: dict[str, Any] = {}
        for name, value in asdict(self).items():
            line |= value if name == "parts" else {name: value}
        return line

    @staticmethod
    def of_line(line: Mapping[str, Any]) -> Decision:
        """The way back; what is no field is a part of the loss."""
        own = {field.name for field in fields(Decision)} - {"parts"}
        parts = {name: value for name, value in line.items() if name not in own}
        return Decision(**{name: value for name, value in line.items() if name in own}, parts=parts)


@dataclass(frozen=True)
class Labelling:
    """A batch that was labelled, and not learned from yet.

    Attributes:
        rows: The rows of the batch that each decision is about.
        contexts: Those that were decided about. Shape ``(M, d)``.
        judgement: Who was asked in each decision.
        before: What all had cost before it.
    """

    rows: list[list[int]]
    contexts: Tensor
    judgement: Judgement
    before: Costs


def decisions_of(path: Path, iteration: int) -> list[Decision]:
    """Those of an iteration that are written in ``selection.jsonl``; none if there is no such file."""
    if not path.exists():
        return []
    try:
        lines = [json.loads(text) for text in ended_lines(path)]
        return [Decision.of_line(line) for line in lines if line["iteration"] == iteration]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ConfigurationError(
            f"{path} holds a line that no run wrote. Put the file back, or start a new run."
        ) from None


def category_of(prompts: Sequence[Prompt]) -> str | None:
    """The category of all the prompts; None if they have several."""
    categories = {prompt.category for prompt in prompts}
    return categories.pop() if len(categories) == 1 else None


def decide(
    batch: LabelledBatch,
    rows: Sequence[Sequence[int]],
    step: int,
    arms: Sequence[str],
    why: Explanation,
    judgement: Judgement,
    forbidden: Mapping[str, int],
    costs: Costs,
    paired: bool = True,
) -> list[Decision]:
    """What is known of a batch's ``M`` decisions before the step.

    Args:
        batch: The labelled batch.
        rows: The rows of the batch that each decision is about.
        step: The training step.
        arms: Names of the arms.
        why: The bandit's mean and bonus for each decision.
        judgement: Who was asked in each decision.
        forbidden: Responses that failed each constraint.
        costs: What the batch cost.
        paired: Whether pairs are trained; else scores are, and those of ``judgement`` show what they distinguish.
    """
    count = torch.bincount(judgement.pairs.prompt.cpu(), minlength=len(batch))  # (B,)
    passed_over = judgement.with_outcome(Outcome.ASIDE, Outcome.FAILED, Outcome.ABSTAINED, Outcome.TIED)
    tied = judgement.with_outcome(Outcome.TIED)
    decisions = []
    for m, own in enumerate(rows):
        prompts = [batch.prompts.prompts[row] for row in own]
        decisions.append(
            Decision(
                iteration=batch.iteration,
                step=step,
                prompt_ids=[prompt.id for prompt in prompts],
                category=category_of(prompts),
                arm=arms[int(batch.arms[own[0]])],
                passed_over=[arms[arm] for arm in passed_over[m]],
                tied=[arms[arm] for arm in tied[m]],
                mean=dict(zip(arms, why.mean[m].tolist(), strict=True)),
                bonus=dict(zip(arms, why.bonus[m].tolist(), strict=True)),
                pairs=int(count[own].sum()) if paired else None,
                prompts_without_pairs=int((count[own] == 0).sum()),
                forbidden=dict(forbidden),
                reward_model_seconds=costs.seconds,
                reward_model_forwards=costs.forwards,
                missing=costs.missing,
            )
        )
    return decisions


def conclude(
    decisions: Sequence[Decision],
    rows: Sequence[Sequence[int]],
    arms: Sequence[str],
    losses: PromptLosses,
    seen: Observations,
    rewards: Tensor,
    costs: Costs,
) -> list[Decision]:
    """The same decisions with what came of them.

    Args:
        decisions: As ``decide`` made them.
        rows: The rows of the batch that each is about.
        arms: Names of the arms.
        losses: The training loss of each prompt.
        seen: What the signal measured; its ``prompt`` counts decisions here.
        rewards: What the bandit learned from that. Shape ``(O,)``.
        costs: What the batch cost, now that a trusted check may have asked once more.
    """
    concluded = []
    for m, (decision, own) in enumerate(zip(decisions, rows, strict=True)):
        about = torch.nonzero(seen.prompt == m).squeeze(-1).tolist()
        names = [arms[int(seen.arm[o])] for o in about]
        of_own = {name: _mean(values[list(own)]) for name, values in losses.values.items()}
        concluded.append(
            replace(
                decision,
                reward_model_seconds=costs.seconds,
                reward_model_forwards=costs.forwards,
                missing=costs.missing,
                loss=of_own.pop(LOSS),
                parts=of_own,
                observed=dict(zip(names, seen.value[about].tolist(), strict=True)),
                reward=dict(zip(names, rewards[about].tolist(), strict=True)),
            )
        )
    return concluded


def _mean(values: Tensor) -> float | None:
    values = values[~values.isnan()]
    return float(values.mean()) if len(values) else None
