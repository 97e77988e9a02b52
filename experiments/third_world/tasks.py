"""The third world's five kinds of questions: their right answers, and what else is said.

| kind    | question                                                        | right  | misread as |
|---------|-----------------------------------------------------------------|--------|------------|
| odd     | Which word is unlike the others: apple, hammer, plum, pear?     | hammer |            |
| count   | How many of these are animals: dog, apple, cat, saw, cow?       | three  |            |
| largest | Which number is the largest: twelve, forty, seven, thirty-one?  | forty  |            |
| longest | Which word is the longest: cat, hammer, sofa, plum?             | hammer |            |
| order   | Which word stands before sofa: cat, sofa, plum, lion?           | cat    | plum       |

A slip is another answer of the right form: another of the words, another number. Only in ``order`` do many make the
same mistake: they say what stands behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from experiments.third_world.functions import in_words
from experiments.third_world.words import WORDS

ALL_WORDS = [word for words in WORDS.values() for word in words]


@dataclass(frozen=True)
class Question:
    """A question and what may be said to it.

    Attributes:
        prompt: As the policy reads it.
        answer: What is right.
        slips: Wrong answers of the right form.
        misread: The wrong answer that many give; None where nobody does.
        category: Its kind.
    """

    prompt: str
    answer: str
    slips: tuple[str, ...]
    misread: str | None
    category: str


def _asked(question: str, answer: str, slips: list[str], category: str, misread: str | None = None) -> Question:
    return Question(f"{question}\nAnswer:", answer, tuple(slips), misread, category)


def odd(rng: Random) -> Question:
    """Three words of one kind and one of another."""
    same, other = rng.sample(list(WORDS), 2)
    alike, answer = rng.sample(WORDS[same], 3), rng.choice(WORDS[other])
    words = rng.sample([*alike, answer], 4)
    return _asked(f"Which word is unlike the others: {', '.join(words)}?", answer, alike, "odd")


def count(rng: Random) -> Question:
    """Five words, of which one to four are of a kind."""
    kind = rng.choice(list(WORDS))
    number = rng.randint(1, 4)
    others = [word for word in ALL_WORDS if word not in WORDS[kind]]
    words = [*rng.sample(WORDS[kind], number), *rng.sample(others, 5 - number)]
    rng.shuffle(words)
    slips = [in_words(n) for n in range(1, 6) if n != number]
    return _asked(f"How many of these are {kind}: {', '.join(words)}?", in_words(number), slips, "count")


def largest(rng: Random) -> Question:
    """Four numbers below a hundred, in words."""
    numbers = rng.sample(range(1, 100), 4)
    slips = [in_words(number) for number in numbers if number != max(numbers)]
    listed = ", ".join(map(in_words, numbers))
    return _asked(f"Which number is the largest: {listed}?", in_words(max(numbers)), slips, "largest")


def longest(rng: Random) -> Question:
    """Four words, one longer than the others."""
    while True:
        words = rng.sample(ALL_WORDS, 4)
        by_length = sorted(words, key=len)
        if len(by_length[-1]) > len(by_length[-2]):
            return _asked(f"Which word is the longest: {', '.join(words)}?", by_length[-1], by_length[:-1], "longest")


def order(rng: Random) -> Question:
    """Four words; what stands before the second or third."""
    words = rng.sample(ALL_WORDS, 4)
    place = rng.choice([1, 2])
    answer, misread = words[place - 1], words[place + 1]
    slips = [word for word in words if word not in (answer, misread)]
    return _asked(f"Which word stands before {words[place]}: {', '.join(words)}?", answer, slips, "order", misread)


KINDS: dict[str, Callable[[Random], Question]] = {
    "odd": odd,
    "count": count,
    "largest": largest,
    "longest": longest,
    "order": order,
}


def fresh(rng: Random, kinds: list[str], taken: set[str]) -> Iterator[Question]:
    """Questions of some kinds in turn, none twice.

    Args:
        rng: Source of randomness.
        kinds: Which.
        taken: Prompts that are not drawn; each that is drawn is added.
    """
    while True:
        for kind in kinds:
            question = KINDS[kind](rng)
            while question.prompt in taken:
                question = KINDS[kind](rng)
            taken.add(question.prompt)
            yield question
