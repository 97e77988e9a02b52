"""What is kept of a prompt that was judged, whole, for people to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from laser_pl.batches import LabelledBatch, Prompt
from laser_pl.run.pair_record import plain


def judged_line(
    batch: LabelledBatch,
    row: int,
    step: int,
    arms: Sequence[str],
    polled: Mapping[int, Tensor],
    is_right: Callable[[str, Prompt], bool],
) -> dict[str, Any]:
    """A line of ``judged.jsonl``.

    Args:
        batch: The labelled batch.
        row: Of the prompt.
        step: The training step.
        arms: Names of the reward models.
        polled: Every arm's scores ``(K, n)`` for those rows for which a signal asked them.
        is_right: Whether a response to a prompt with an answer is right.
    """
    prompt, texts = batch.prompts.prompts[row], list(batch.responses.texts[row])
    judge, answer = arms[int(batch.arms[row])], prompt.answer
    scores = {name: plain(values) for name, values in zip(arms, polled.get(row, ()), strict=False)}
    return {
        "iteration": batch.iteration,
        "step": step,
        "prompt_id": prompt.id,
        "category": prompt.category,
        "prompt": prompt.text,
        "question": prompt.question,
        "answer": answer,
        "arm": judge,
        "responses": texts,
        "right": None if answer is None else [is_right(text, prompt) for text in texts],
        "finished": batch.responses.finished[row].tolist(),
        "lengths": batch.responses.mask[row].sum(-1).tolist(),
        # What a signal asked of all arms, and in any case what was trained.
        "scores": {**scores, judge: plain(batch.scores[row])},
        "pairs": batch.pairs.of(row),
    }
