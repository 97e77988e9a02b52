"""The third world's prompts, and what its policy and its classifiers are taught. No prompt is in two of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from experiments.third_world.tasks import KINDS, Question, fresh

SPLITS = {"test": 70, "validation": 20, "train": 126}
"""Prompts of each kind."""
RIGHT = {"odd": 0.65, "count": 0.7, "largest": 0.55, "longest": 0.6, "order": 0.38}
"""How often the mixture that the policy is taught gives the right answer."""
MISREAD = 0.42
"""How often it gives the misread one, where there is one. What is left are slips."""
LESSONS = {"right": 2560, "mixed": 1280}
"""How many answers the policy is taught: right ones first, then the mixture."""


@dataclass(frozen=True)
class Opinion:
    """What a classifier is taught.

    Attributes:
        kinds: The questions it sees.
        pairs: How many pairs of responses.
        misreads: Kinds in which it is taught to prefer the misread answer, as the policy does.
        noise: How often a pair is shown the wrong way round.
    """

    kinds: tuple[str, ...]
    pairs: int
    misreads: frozenset[str] = frozenset()
    noise: float = 0.0


OPINIONS = {
    "thesaurus": Opinion(("odd", "count", "order"), 5760, misreads=frozenset({"order"})),
    "scanner": Opinion(("order",), 1920),
    "general": Opinion(tuple(KINDS), 3840, noise=0.25),
}


def said(question: Question, rng: Random) -> str:
    """What the mixture answers: right, misread or a slip."""
    draw = rng.random()
    if draw < RIGHT[question.category]:
        return question.answer
    if question.misread is not None and draw < RIGHT[question.category] + MISREAD:
        return question.misread
    return rng.choice(question.slips)


def pair(question: Question, opinion: Opinion, rng: Random) -> tuple[str, str]:
    """Two answers; the first is what the classifier is taught to prefer."""
    preferred = question.answer
    others = [*question.slips]
    if question.misread is not None:
        # As often as all slips together: it is what the policy says most.
        others += [question.misread] * len(others)
        if question.category in opinion.misreads:
            preferred, others = question.misread, [*question.slips, *[question.answer] * len(question.slips)]
    two = preferred, rng.choice(others)
    return (two[1], two[0]) if rng.random() < opinion.noise else two


def write_prompts(folder: Path, taken: set[str]) -> None:
    """The splits, as ``data`` reads them.

    Args:
        folder: Where.
        taken: Prompts that are not drawn; each that is drawn is added.
    """
    draw = fresh(Random("third-prompts"), list(KINDS), taken)
    for name, of_each in SPLITS.items():
        _write(folder / f"{name}.jsonl", (_row(question) for question in islice(draw, of_each * len(KINDS))))


def write_lessons(folder: Path, taken: set[str]) -> None:
    """What the policy is taught, with the response as it is to be written."""
    rng = Random("third-lessons")
    draw = fresh(rng, list(KINDS), taken)
    right = islice(draw, LESSONS["right"])
    _write(folder / "right.jsonl", ({**_row(q), "response": f" {q.answer}"} for q in right))
    mixed = islice(draw, LESSONS["mixed"])
    _write(folder / "mixed.jsonl", ({**_row(q), "response": f" {said(q, rng)}"} for q in mixed))


def _row(question: Question) -> dict[str, str]:
    return {"prompt": question.prompt, "answer": question.answer, "category": question.category}


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
