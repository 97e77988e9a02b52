"""Wrong answers: slips of the pen for the policy to learn, and garbage for the reward models to reject."""

from __future__ import annotations

from random import Random

from tasks import TASKS, Question, Tasks


def slip(answer: str, category: str, rng: Random, tasks: Tasks = TASKS) -> str:
    """Make one slip in an answer: a wrong character, two swapped, one doubled, or (rarely) one lost.

    More are doubled than lost, so that a reward model which likes length is often wrong.

    Args:
        answer: What was meant, not empty.
        category: Its category, which says what a wrong character may be.
        rng: Source of randomness; it is advanced.
        tasks: The world's tasks.

    Returns:
        A string that differs from ``answer``, not empty, at most one character longer.
    """
    while True:
        at, roll = rng.randrange(len(answer)), rng.random()
        if roll < 0.45:
            slipped = answer[:at] + rng.choice(tasks.kinds[category]) + answer[at + 1 :]
        elif roll < 0.65:
            slipped = answer[:at] + answer[at : at + 2][::-1] + answer[at + 2 :]
        elif roll < 0.95:
            slipped = answer[: at + 1] + answer[at:]
        else:
            slipped = answer[:at] + answer[at + 1 :]
        if slipped and slipped != answer:
            return slipped


def garbage(question: Question, rng: Random, tasks: Tasks = TASKS) -> str:
    """Make an answer that no reading of the question gives: random characters, a wrong length, repeats, or nothing.

    Args:
        question: The question that is answered badly.
        rng: Source of randomness; it is advanced.
        tasks: The world's tasks.

    Returns:
        A string, at most one character longer than an answer may be; by chance it may still be a plausible answer.
    """
    longest = tasks.max_answer_length + 1  # what an answer without an end looks like
    length = rng.randint(1, longest)
    roll = rng.random()
    if roll < 0.05:
        return ""
    if roll < 0.25:
        return "".join(rng.choice(tasks.alphabet) for _ in range(length))
    if roll < 0.50:
        return "".join(rng.choice(tasks.kinds[question.category]) for _ in range(length))
    meant = rng.choice((question.answer, question.misunderstood))
    if roll < 0.60:
        return meant[: rng.randrange(len(meant))]
    if roll < 0.70:
        return (meant + rng.choice((meant, meant[-1] * longest)))[:longest]
    if roll < 0.80:
        return rng.choice(meant + question.prompt) * length
    if roll < 0.90:
        return "".join(rng.sample(meant, len(meant)))
    for _ in range(rng.randint(2, 3)):
        meant = slip(meant, question.category, rng, tasks)[:longest]
    return meant


def edit_distance(left: str, right: str) -> int:
    """Count the single-character insertions, deletions and replacements between two strings.

    >>> edit_distance("abcde", "abde")
    1
    """
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
