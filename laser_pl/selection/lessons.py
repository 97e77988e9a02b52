"""What reward models that learn get to know of their judgement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.batches import LabelledBatch, PairIndices
from laser_pl.feedback.observations import Observations
from laser_pl.selection.panel import Panel


def teach(
    panel: Panel,
    arms: Sequence[str],
    batch: LabelledBatch,
    pairs: PairIndices,
    decision: Tensor,
    seen: Observations,
    rewards: Tensor,
) -> None:
    """Let reward models take in what the bandit learned of them, whoever among their members learns.

    Args:
        panel: Holds them.
        arms: Their names.
        batch: What was trained.
        pairs: What of its responses was preferred to what. On the CPU.
        decision: Which decision each prompt belongs to. Shape ``(B,)``, int64.
        seen: What was observed; its ``prompt`` counts decisions.
        rewards: What the bandit learned from that. Shape ``(O,)``.
    """
    learners, lessons = [], []
    for arm, name in enumerate(arms):
        own = seen.arm == arm
        of_decision = torch.full((int(decision.max()) + 1,), torch.nan, dtype=torch.float64)
        of_decision[seen.prompt[own]] = rewards[own]
        judged = of_decision[decision].masked_fill(batch.arms != arm, torch.nan)  # (B,)
        for learner in panel.pool.reward_models[name].learners():
            learners.append(learner)
            lessons.append(learner.lessons(batch.prompts.prompts, pairs, judged, batch.responses.texts))
    every = panel.processes.gather(lessons)
    for number, learner in enumerate(learners):
        learner.learn(dict(sorted(lesson for one in every for lesson in one[number].items())))
