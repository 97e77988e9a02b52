"""The four tasks: their prompts, their right answers, and the misunderstanding that goes with each.

Every prompt has eight characters: a category letter, a blank, five characters of content and ``=``.

| category  | prompt     | right | misunderstood as          |
|-----------|------------|-------|---------------------------|
| addition  | `A 37+ 5=` | `42`  | `32` (the carry is lost)  |
| sorting   | `S dbcae=` | `abcde` | `edcba` (descending)    |
| reversing | `R dbcae=` | `eacbd` | `dbcae` (copied)        |
| comparing | `C 37, 5=` | `37`  | `5` (the smaller number)  |

Prompts where both readings give the same answer are never drawn, so that the misunderstanding is always wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

CATEGORIES = ("addition", "sorting", "reversing", "comparing")
PROMPT_LENGTH = 8
MAX_ANSWER_LENGTH = 6
DIGITS = "0123456789"
# Ten of the 26 letters the tokenizer knows: the task is learned faster, and the other sixteen are there as garbage.
LETTERS = "abcdefghij"
# Everything the tokenizer can write. A policy that is being hacked ends up anywhere in here.
ALPHABET = " " + DIGITS + "abcdefghijklmnopqrstuvwxyz" + "ASRC" + "+,="
PROMPTS_PER_CATEGORY = {"train": 500, "validation": 50, "test": 200}
SPLIT_SIZES = {split: dict.fromkeys(CATEGORIES, count) for split, count in PROMPTS_PER_CATEGORY.items()}

_LETTER_OF = {"addition": "A", "sorting": "S", "reversing": "R", "comparing": "C"}
_CATEGORY_OF = {letter: category for category, letter in _LETTER_OF.items()}


@dataclass(frozen=True)
class Question:
    """A prompt with both of its readings.

    Attributes:
        prompt: As many characters as all prompts of its world have, ending in ``=``.
        answer: The right answer, at most ``max_answer_length`` characters.
        misunderstood: What the task's consistent misunderstanding answers; never equal to ``answer``.
        category: The task.
    """

    prompt: str
    answer: str
    misunderstood: str
    category: str


@dataclass(frozen=True)
class Tasks:
    """The tasks of a world, as the scripts that train and measure know them.

    Attributes:
        draw: From a category and a source of randomness to a question on which both readings differ.
        kinds: Category to the characters that its answers are made of.
        alphabet: Everything the tokenizer can write.
        prompt_length: Characters of every prompt.
        max_answer_length: Characters of the longest answer, right or misunderstood.
    """

    draw: Callable[[str, Random], Question]
    kinds: dict[str, str]
    alphabet: str
    prompt_length: int
    max_answer_length: int


def read_prompt(prompt: str) -> Question:
    """Work out both readings of a prompt.

    Args:
        prompt: One of the four forms in the module's table.

    Returns:
        The question; ``answer`` and ``misunderstood`` may agree here (``draw_question`` rejects that).

    Raises:
        ValueError: If the prompt has the wrong length or an unknown category letter.

    >>> read_prompt("A 37+ 5=").answer, read_prompt("A 37+ 5=").misunderstood
    ('42', '32')
    """
    if len(prompt) != PROMPT_LENGTH or prompt[0] not in _CATEGORY_OF:
        raise ValueError(f"expected {PROMPT_LENGTH} characters starting with one of A, S, R, C, got {prompt!r}")
    category, content = _CATEGORY_OF[prompt[0]], prompt[2:7]
    if category == "sorting":
        ascending = "".join(sorted(content))
        return Question(prompt, ascending, ascending[::-1], category)
    if category == "reversing":
        return Question(prompt, content[::-1], content, category)
    left, right = int(content[:2]), int(content[3:])
    if category == "comparing":
        return Question(prompt, str(max(left, right)), str(min(left, right)), category)
    no_carry = 10 * ((left // 10 + right // 10) % 10) + (left + right) % 10
    return Question(prompt, str(left + right), str(no_carry), category)


def draw_question(category: str, rng: Random) -> Question:
    """Draw a random question of a category on which the two readings differ.

    Args:
        category: One of ``CATEGORIES``.
        rng: Source of randomness; it is advanced.

    Returns:
        A question with ``answer != misunderstood``.
    """
    while True:
        if category in ("sorting", "reversing"):
            content = "".join(rng.choice(LETTERS) for _ in range(5))
        else:
            sign = "+" if category == "addition" else ","
            content = f"{rng.randrange(100):2d}{sign}{rng.randrange(100):2d}"
        question = read_prompt(f"{_LETTER_OF[category]} {content}=")
        if question.answer != question.misunderstood:
            return question


TASKS = Tasks(
    draw=draw_question,
    kinds={category: DIGITS if category in ("addition", "comparing") else LETTERS for category in CATEGORIES},
    alphabet=ALPHABET,
    prompt_length=PROMPT_LENGTH,
    max_answer_length=MAX_ANSWER_LENGTH,
)


def draw_distinct(category: str, count: int, rng: Random, taken: set[str], tasks: Tasks = TASKS) -> list[Question]:
    """Draw questions whose prompts are new, and note their prompts.

    Args:
        category: One of the tasks' categories.
        count: How many to draw; must leave room in the category (about 7,000 prompts for addition, more elsewhere).
        rng: Source of randomness; it is advanced.
        taken: Prompts not to be drawn; the drawn ones are added to it.
        tasks: The world's tasks.

    Returns:
        ``count`` questions.
    """
    drawn: list[Question] = []
    while len(drawn) < count:
        question = tasks.draw(category, rng)
        if question.prompt not in taken:
            taken.add(question.prompt)
            drawn.append(question)
    return drawn


def draw_splits(
    seed: int, sizes: dict[str, dict[str, int]] = SPLIT_SIZES, tasks: Tasks = TASKS
) -> dict[str, list[Question]]:
    """Draw the shipped prompts: disjoint splits, shuffled.

    Args:
        seed: The world's seed.
        sizes: Split to the number of its prompts in each category.
        tasks: The world's tasks.

    Returns:
        Split name to its questions, in the order in which they are written to disk.
    """
    rng = Random(f"prompts-{seed}")
    taken: set[str] = set()
    splits = {}
    for split, counts in sizes.items():
        questions = [q for category, count in counts.items() for q in draw_distinct(category, count, rng, taken, tasks)]
        rng.shuffle(questions)
        splits[split] = questions
    return splits


def write_prompts(splits: dict[str, list[Question]], folder: Path) -> None:
    """Write one JSON line per question (``prompt``, ``answer``, ``category``), one file per split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, questions in splits.items():
        rows = [{"prompt": q.prompt, "answer": q.answer, "category": q.category} for q in questions]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_bytes(text.encode())
