"""The recorded prompts, made ready to be read by people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laser_pl.report.records import RunRecords
from laser_pl.report.text import line, shortened, visible

PROMPT_SHOWN = 2000
RESPONSE_SHOWN = 800
"""Characters; what is longer is in judged.jsonl."""


@dataclass(frozen=True)
class Text:
    """A text as it is shown.

    Attributes:
        shown: Its beginning, safe to look at.
        omitted: Characters that are left out.
    """

    shown: str
    omitted: int


@dataclass(frozen=True)
class Judged:
    """A response and what was said of it.

    Attributes:
        text: What the policy wrote.
        score: That of the arm that was chosen.
        others: Other arms' scores.
        height: That score between the prompt's lowest (0) and highest (1); None without a score.
        chosen: Pairs in which it is preferred.
        rejected: Pairs in which another is.
        right: Whether it gives the reference answer; None if there is none.
        finished: Whether it ended by itself.
        length: Tokens.
    """

    text: Text
    score: float | None
    others: dict[str, float | None]
    height: float | None
    chosen: int
    rejected: int
    right: bool | None
    finished: bool
    length: int


@dataclass(frozen=True)
class Example:
    """A prompt with its responses, the chosen arm's favourite first.

    Attributes:
        iteration: Counted from 1, as people count.
        step: Counted from 0, as in the records.
        category: Its place among the categories.
        arm: The chosen arm's place among the arms.
        name: What is asked, in one line, without the template that all prompts have.
        prompt: What the policy read.
        answer: The reference answer.
        responses: What it wrote.
    """

    iteration: int
    step: int
    category: int
    arm: int
    name: str
    prompt: Text
    answer: str | None
    responses: Sequence[Judged]


@dataclass(frozen=True)
class Sample:
    """All of them, and what they can be filtered by.

    Attributes:
        examples: In the order of the records.
        categories: That examples name by their place.
        arms: Likewise.
        iterations: Counted from 1.
    """

    examples: Sequence[Example]
    categories: Sequence[str]
    arms: Sequence[str]
    iterations: Sequence[int]


def sample_of(records: RunRecords) -> Sample:
    """The recorded prompts of a run."""
    judged = records.judged
    categories = sorted({one["category"] for one in judged})
    used = {one["arm"] for one in judged}
    arms = [*(arm for arm in records.scorers if arm in used), *sorted(used - set(records.scorers))]
    examples = [_example(one, categories, arms) for one in judged]
    return Sample(examples, categories, arms, sorted({example.iteration for example in examples}))


def responses_of(one: dict[str, Any], limit: int = RESPONSE_SHOWN) -> list[Judged]:
    """A recorded prompt's responses, the chosen arm's favourite first."""
    texts, pairs, scores = one["responses"], one["pairs"], one["scores"]
    own: list[float | None] = scores.get(one["arm"]) or [None] * len(texts)
    known = [score for score in own if score is not None]
    chosen, rejected = Counter(first for first, _ in pairs), Counter(second for _, second in pairs)
    low, high = min(known, default=0.0), max(known, default=0.0)
    found = [
        Judged(
            text=text_of(text, limit),
            score=own[r],
            others={arm: values[r] for arm, values in scores.items() if arm != one["arm"]},
            height=None if own[r] is None else (own[r] - low) / ((high - low) or 1.0),  # type: ignore[operator]
            chosen=chosen[r],
            rejected=rejected[r],
            right=(one.get("right") or [None] * len(texts))[r],
            finished=(one.get("finished") or [True] * len(texts))[r],
            length=(one.get("lengths") or [0] * len(texts))[r],
        )
        for r, text in enumerate(texts)
    ]
    return sorted(found, key=lambda response: -math.inf if response.score is None else response.score, reverse=True)


def text_of(text: str, limit: int) -> Text:
    """A text's beginning."""
    shown, omitted = shortened(text, limit)
    return Text(visible(shown), omitted)


def _example(one: dict[str, Any], categories: Sequence[str], arms: Sequence[str]) -> Example:
    return Example(
        iteration=one["iteration"] + 1,
        step=one["step"],
        category=categories.index(one["category"]),
        arm=arms.index(one["arm"]),
        name=line(one.get("question") or one["prompt"], 80),
        prompt=text_of(one["prompt"], PROMPT_SHOWN),
        answer=None if one.get("answer") is None else line(str(one["answer"]), 200),
        responses=responses_of(one),
    )
