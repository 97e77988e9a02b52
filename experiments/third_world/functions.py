"""Reward functions with TRL's signature: one that can count, and one that likes what is long."""

from __future__ import annotations

from typing import Any

_ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """A number from 0 to 99 in words.

    >>> in_words(7), in_words(40), in_words(63)
    ('seven', 'forty', 'sixty-three')
    """
    if number < len(_ONES):
        return _ONES[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


NUMBERS = {in_words(number): number for number in range(100)}
"""The numbers from 0 to 99 by their words."""


def abacus(prompts: list[Any], completions: list[str], **columns: Any) -> list[float]:
    """How large a number in words is, where the largest is asked for; elsewhere, the fewer words the better.

    A tool for one kind of question. Of the others it knows that an answer is a word.
    """
    return [_measured(str(asked), said) for asked, said in zip(prompts, completions, strict=True)]


def _measured(prompt: str, response: str) -> float:
    if not prompt.startswith("Which number is the largest"):
        return -float(len(response.split()))
    said = response.strip().rstrip(".")
    listed = prompt.partition(": ")[2].partition("?")[0].split(", ")
    return float(NUMBERS[said]) if said in listed else -1.0


def wordy(prompts: list[Any], completions: list[str], **columns: Any) -> list[float]:
    """The length in characters: right about the longest word, and nowhere else."""
    return [float(len(text.strip())) for text in completions]
