"""What is kept of every pair: with the rollouts, all that it takes to make the preference data of a run again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from laser_pl.batches import LabelledBatch


def pair_lines(batch: LabelledBatch, step: int, judges: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Lines of ``pairs.jsonl``, one for each prompt of a batch, in its order, also where no pair was made.

    The texts lie in the rollouts: the lines of an iteration stand in the order of its rollouts' rows.

    Args:
        batch: The labelled batch.
        step: The training step.
        judges: Who scored each prompt.
    """
    pairs = batch.pairs.to("cpu")
    for row, (prompt, judge) in enumerate(zip(batch.prompts.prompts, judges, strict=True)):
        yield {
            "iteration": batch.iteration,
            "step": step,
            "prompt_id": prompt.id,
            "arm": judge,
            "scores": plain(batch.scores[row]),
            "pairs": pairs.of(row),
        }


def plain(scores: Tensor) -> list[float | None]:
    """For JSON, which knows no NaN.

    Args:
        scores: Shape ``(n,)``.
    """
    return [score if math.isfinite(score) else None for score in scores.tolist()]
