"""Does a response give the reference answer?"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from decimal import Decimal

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.metrics import grader

# The paper asks for "Final answer: ..."; GSM8K's own solutions mark theirs with "####".
_MARK = re.compile(r"(?:final\s+answer\s*(?:is)?\s*:?|####)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")


def final_part(response: str) -> str:
    """What follows the last mark of a final answer, or the whole response where there is none.

    >>> final_part("3 and 4. Final answer: 7")
    ' 7'
    """
    return _MARK.split(response)[-1]


class Matcher(grader.Grader):
    """Extracts an answer from a text and compares it with the reference answer's: right or wrong, nothing between."""

    @abstractmethod
    def extract(self, text: str) -> str | Decimal | None:
        """The answer in ``text``, in a form that can be compared; None where there is none."""

    def matches(self, response: str, answer: str) -> bool:
        """Whether ``response`` gives ``answer``."""
        found = self.extract(final_part(response))
        return found is not None and found == self.extract(final_part(answer))

    def grade(self, response: str, prompt: Prompt) -> float:
        """1 or 0."""
        return 0.0 if prompt.answer is None else float(self.matches(response, prompt.answer))

    def said(self, response: str, prompt: Prompt) -> str | Decimal | None:
        """The answer in ``response``."""
        return self.extract(final_part(response))


def divided(matcher: Matcher, responses: Sequence[str], answer: str | None) -> list[bool] | None:
    """``laser_pl.metrics.grader.divided`` for an answer without its prompt, which no matcher looks at.

    >>> divided(Exact(), ["4", "5"], "4"), divided(Exact(), ["5", "5"], "4"), divided(Exact(), ["4", "5"], None)
    ([True, False], None, None)
    """
    return grader.divided(matcher, responses, Prompt("", "", "", answer))


class Exact(Matcher):
    """The same text, but for white space around it.

    >>> Exact().matches(" 42 ", "42")
    True
    """

    def extract(self, text: str) -> str | None:
        """The text without white space around it."""
        return text.strip()


class Number(Matcher):
    """The same number: the last one after the mark of the final answer.

    >>> Number().matches("12 eggs, so Final answer: $1,234.00.", "1234")
    True
    """

    def extract(self, text: str) -> Decimal | None:
        """The last number; thousands may be set off with commas."""
        found = _NUMBER.findall(text)
        return Decimal(found[-1].replace(",", "")) if found else None


class Choice(Matcher):
    """The same letter of a multiple choice.

    Args:
        letters: The letters that may be chosen.

    >>> Choice().matches("Final answer: (B) Paris", "B")
    True
    """

    def __init__(self, letters: str = "ABCDE") -> None:
        if not letters.isalpha():
            raise ConfigurationError(f"letters must be letters, got {letters!r}. Set matcher.init_args.letters.")
        self.letters = letters
        # A lone capital, so that the article in "a cat" is no choice; a lower-case letter only when it is all there is.
        self._letter = re.compile(rf"(?<![A-Za-z0-9'])([{letters.upper()}])(?![A-Za-z0-9'])")

    def extract(self, text: str) -> str | None:
        """The first letter that stands alone."""
        bare = text.strip().strip("().").upper()
        if len(bare) == 1 and bare in self.letters.upper():
            return bare
        found = self._letter.search(text)
        return found.group(1) if found else None


class YesNo(Matcher):
    """Yes or no; true and false count as well.

    >>> YesNo().matches("Final answer: Yes, it can.", "true")
    True
    """

    _word = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)

    def extract(self, text: str) -> str | None:
        """The first such word."""
        found = self._word.search(text)
        return None if found is None else {"true": "yes", "false": "no"}.get(found[1].lower(), found[1].lower())


class Regex(Matcher):
    """The same match of a regular expression.

    Args:
        pattern: Its first group is compared, or the whole match where it has no group.

    >>> Regex(r"<answer>(.*?)</answer>").matches("so <answer>7</answer>", "<answer>7</answer>")
    True
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ConfigurationError(f"matcher pattern {pattern!r} is no regular expression: {error}.") from error

    def extract(self, text: str) -> str | None:
        """The last match; a text without one stands for itself if it is a reference answer."""
        found = list(self._pattern.finditer(text))
        if not found:
            return None
        last: str | None = found[-1].group(1 if self._pattern.groups else 0)  # None: the group took no part
        return None if last is None else last.strip()

    def matches(self, response: str, answer: str) -> bool:
        """Whether the response's match is the answer, or the answer's own match."""
        found = self.extract(response)
        expected = self.extract(answer)
        return found is not None and found == (answer.strip() if expected is None else expected)

    def said(self, response: str, prompt: Prompt) -> str | None:
        """The last match in the whole response."""
        return self.extract(response)
