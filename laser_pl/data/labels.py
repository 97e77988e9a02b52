"""Responses that people have compared: what ``label`` asked for, or preferences that are there already."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from laser_pl.batches import Prompt
from laser_pl.data.messages import refuse_unusable, without_unwritable
from laser_pl.data.prompts import content_hash
from laser_pl.data.tables import Row, Table
from laser_pl.data.templates import content_of
from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, closest_path, perhaps
from laser_pl.messages.terminal import shown
from laser_pl.metrics.grader import Grader

UNTOLD = ("both", "neither", "skip")
"""What is said where no response is better than another: all are good, none is, or nobody can say."""
ADVICE = "Set selection.labels to a file that `python -m laser_pl label` wrote, or with prompt, chosen and rejected."


@dataclass(frozen=True)
class Compared:
    """Responses to one prompt, of which some are better than the others.

    Attributes:
        prompt: What they answer.
        categories: Of which the comparison says something.
        responses: Their texts, at least two.
        better: Whether each is one of the better ones; some are and some are not.
    """

    prompt: Prompt
    categories: tuple[str, ...]
    responses: tuple[str, ...]
    better: tuple[bool, ...]

    @property
    def pairs(self) -> int:
        """Of a better and a worse response."""
        return sum(self.better) * (len(self.better) - sum(self.better))


def compared_in(path: str, prompts: Sequence[Prompt], grader: Grader) -> list[Compared]:
    """Read labels.

    A line holds ``prompt`` and either ``responses`` with ``better``, the numbers of the better ones counted from 1, or
    with ``answer``, by which they are graded; or ``chosen`` and ``rejected``. A line that nobody has filled in yet, or
    that says ``both``, ``neither`` or ``skip``, is left aside. ``category`` may be left out: then it is that of the
    training prompt, and where the prompt is none of those the line speaks for all categories.

    Args:
        path: A file of rows.
        prompts: The training prompts.
        grader: Says which responses are right where a line holds an answer.

    Raises:
        ConfigurationError: If there is no file, a line cannot be understood, or none says that a response is better
            than another.
    """
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        meant = None if os.path.exists(file) else closest_path(file)
        raise ConfigurationError(f"selection.labels: there is no file '{path}'.{perhaps(meant, ADVICE)}")
    rows = Table(path).rows()
    known = {_key(prompt.prompt): prompt for prompt in prompts}
    categories = tuple(sorted({prompt.category for prompt in prompts}))
    read = [_compared(row, f"{path}, row {number}", known, categories, grader) for number, row in enumerate(rows, 1)]
    found = [one for one in read if one is not None and one.pairs]
    if not found:
        raise ConfigurationError(
            f"{path}: none of its {len(rows)} rows says that one response is better than another. Fill in `better` or"
            f" `answer`. {ADVICE}"
        )
    return found


def _compared(
    row: Row, where: str, known: Mapping[str, Prompt], categories: tuple[str, ...], grader: Grader
) -> Compared | None:
    if "prompt" not in row:
        raise ConfigurationError(f"{where}: there is no column 'prompt', only {', '.join(map(str, row))}. {ADVICE}")
    row = {**row, "prompt": without_unwritable(row["prompt"])}
    refuse_unusable(row["prompt"], f"{where}: column 'prompt'")
    of = _categories(row, where, known, categories)
    key = _key(row["prompt"])
    prompt = known.get(key)
    if prompt is None:
        prompt = Prompt(content_hash(row["prompt"], None), row["prompt"], content_of(row["prompt"]), category=of[0])
    if "chosen" in row or "rejected" in row:
        both = (_text(row.get("chosen"), f"{where}: column 'chosen'"),
                _text(row.get("rejected"), f"{where}: column 'rejected'"))  # fmt: skip
        return Compared(prompt, of, both, (True, False))
    responses = row.get("responses")
    if not isinstance(responses, list) or len(responses) < 2:
        raise ConfigurationError(f"{where}: 'responses' must be a list of two texts or more. {ADVICE}")
    texts = tuple(_text(one, f"{where}: column 'responses'") for one in responses)
    better = row.get("better")
    if better is not None:
        numbers = _numbers(better, len(texts), where)
        return Compared(prompt, of, texts, tuple(number in numbers for number in range(1, len(texts) + 1)))
    answer = row.get("answer")
    if answer is None or answer == "":
        return None
    if isinstance(answer, (list, dict, bool)):
        raise ConfigurationError(f"{where}: 'answer' must be a text or a number, got {answer!r}.")
    asked = replace(prompt, answer=str(answer), category=of[0])
    return Compared(prompt, of, texts, tuple(grader.is_right(text, asked) for text in texts))


def _categories(row: Row, where: str, known: Mapping[str, Prompt], categories: tuple[str, ...]) -> tuple[str, ...]:
    named = row.get("category")
    if named is None:
        prompt = known.get(_key(row["prompt"]))
        return categories if prompt is None else (prompt.category,)
    named = shown(str(named))  # as that of a prompt is read
    if named not in categories:
        raise ConfigurationError(
            f"{where}: no training prompt has the category '{named}'; there are {', '.join(categories)}."
            + perhaps(closest(named, categories), "Name one of them, or leave `category` out.")
        )
    return (named,)


def _numbers(better: Any, count: int, where: str) -> set[int]:
    """Those of the better responses; none where nothing is better."""
    if better in UNTOLD:
        return set()
    numbers = better if isinstance(better, list) else [better]
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= count:
            raise ConfigurationError(
                f"{where}: 'better' is {json.dumps(better, ensure_ascii=False)}. Give the numbers of the better"
                f" responses, from 1 to {count}, or one of {', '.join(UNTOLD)}."
            )
    return set(numbers)


def _text(value: Any, what: str) -> str:
    """A response: a text, or a chat whose last turn is the assistant's."""
    if isinstance(value, list) and value and isinstance(value[-1], dict) and value[-1].get("role") == "assistant":
        value = value[-1].get("content")
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} must hold a text, or a chat that ends with the assistant's turn.")
    return value


def _key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, ensure_ascii=False)
