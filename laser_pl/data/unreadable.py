"""Reference answers that nothing could be equal to."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Iterator, Mapping, Sequence

from laser_pl.batches import Prompt
from laser_pl.metrics.grader import Grader

log = logging.getLogger(__name__)

LOOKED_AT = 1000
"""Answers of a split, from all over it."""


def unreadable(splits: Mapping[str, Sequence[Prompt]], grader: Grader) -> Iterator[str]:
    """A sentence on each split with answers that the grader cannot read.

    >>> from laser_pl.metrics.matchers import Choice
    >>> list(unreadable({"train": [Prompt("a", "?", "?", "B"), Prompt("b", "?", "?", "F")]}, Choice()))
    ["Choice cannot read 1 of 2 answers to train prompts, such as 'F'."]
    """
    for name, prompts in splits.items():
        answered = [prompt for prompt in prompts if prompt.answer is not None]
        some = answered[:: -(-len(answered) // LOOKED_AT) or 1]
        found = [prompt for prompt in some if not grader.reads_answer(prompt)]
        if found:
            yield (
                f"{grader.name_of(found[0].category)} cannot read {len(found)} of {len(some)} answers to {name}"
                f" prompts, such as {reprlib.repr(found[0].answer)}."
            )


def warn_of_unreadable(splits: Mapping[str, Sequence[Prompt]], grader: Grader) -> None:
    """Say so before anything is sampled."""
    for sentence in unreadable(splits, grader):
        log.warning("%s No response to those can be right: set model.matcher, or mend the answers.", sentence)
