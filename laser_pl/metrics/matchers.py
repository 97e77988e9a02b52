"""Does a response give the reference answer?"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Hashable, Sequence

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.metrics import grader
from laser_pl.metrics.final_answer import final_part, marked_part, own_part
from laser_pl.metrics.mathematics import equal, load_math_verify
from laser_pl.metrics.quantities import Quantity, Value, answered, last
from laser_pl.metrics.words import bare, beginnings, letter_in, yes_or_no

_FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_DENIED = re.compile(r"\bnot\s*$", re.IGNORECASE)
_JOINED = re.compile(r"\s*(?:[,;]|,?\s?\b(?:and|or)\b)\s*", re.IGNORECASE)
"""Between two formulas neither of which is the answer alone."""
_BULLET = re.compile(r"\A\s*\n\s*[-*]\s+(?=[$\d.])")


class Matcher(grader.Grader):
    """Extracts an answer from a text and compares it with the reference answer's: right or wrong, nothing between."""

    @abstractmethod
    def extract(self, text: str) -> Hashable:
        """The answer in ``text``, in a form that can be compared; None where there is none."""

    def matches(self, response: str, answer: str) -> bool:
        """Whether ``response`` gives ``answer``."""
        found = self.extract(final_part(response))
        return found is not None and found == self.extract(final_part(answer))

    def grade(self, response: str, prompt: Prompt) -> float:
        """1 or 0."""
        return 0.0 if prompt.answer is None else float(self.matches(response, prompt.answer))

    def parsed_answer(self, response: str, prompt: Prompt) -> Hashable:
        """The answer in ``response``."""
        return self.extract(final_part(response))

    def reads_answer(self, prompt: Prompt) -> bool:
        """Whether there is an answer in it."""
        return prompt.answer is None or self.parsed_answer(prompt.answer, prompt) is not None


def divided(matcher: Matcher, responses: Sequence[str], answer: str | None) -> list[bool] | None:
    """``laser_pl.metrics.grader.divided`` for an answer without its prompt, which no matcher looks at.

    >>> divided(Exact(), ["4", "5"], "4"), divided(Exact(), ["5", "5"], "4"), divided(Exact(), ["4", "5"], None)
    ([True, False], None, None)
    """
    return grader.divided(matcher, responses, Prompt("", "", "", answer))


class Exact(Matcher):
    """The same text, but for white space, one full stop, quotes and markup around it.

    Behind the mark of the final answer its line, or the first sentence there, is enough.

    >>> Exact().matches("Final answer: **42**.", "42"), Exact().matches("042", "42")
    (True, False)
    """

    def extract(self, text: str) -> str | None:
        """The text without what stands around it."""
        return bare(text)

    def matches(self, response: str, answer: str) -> bool:
        """Whether the response is the answer; behind a mark its first line or sentence may be."""
        expected, marked = bare(final_part(answer)), marked_part(response)
        if marked is None:
            return bare(own_part(response)) == expected
        return expected in {bare(marked), *(bare(part) for part in beginnings(marked))}


class Number(Matcher):
    """The same number, however it is written.

    Fractions, percentages, powers of ten, thousands that are set off, LaTeX and words are read. Behind the mark of the
    final answer it is the first number, or what a sum comes to; in a text without a mark it is the last. Units do not
    count. What is only part of a number ("2x"), one of several, or a range is no number.

    >>> Number().matches("12 eggs, so Final answer: $1,234.00.", "1234"), Number().matches("Final answer: 3/2", "1/2")
    (True, False)
    """

    def extract(self, text: str) -> Value | None:
        """The last number of a text without a mark."""
        found = last(text)
        return None if found is None else found.value

    def matches(self, response: str, answer: str) -> bool:
        """Whether both give the same number."""
        found, expected = self._read(response), self._read(answer)
        return found is not None and expected is not None and found.equals(expected)

    def parsed_answer(self, response: str, prompt: Prompt) -> Hashable:
        """The number in ``response``."""
        found = self._read(response)
        return None if found is None else found.value

    @staticmethod
    def _read(text: str) -> Quantity | None:
        marked = marked_part(text)
        return last(own_part(text)) if marked is None else answered(_BULLET.sub(" ", marked))


class Mathematical(Number):
    r"""The same number or formula, by the package ``math-verify`` where it is no plain number.

    Install it by ``pip install 'laser_pl[math]'``. Formulas in LaTeX, intervals, sets and equations are compared by
    what they mean. One that could take long to compare is right only if it is written as the reference answer is:
    powers above 20, sums, limits, factorials, more than 300 characters.

    >>> Mathematical().matches(r"Final answer: $\frac{\sqrt{8}}{2}$", r"$\sqrt{2}$")
    True
    """

    def __init__(self) -> None:
        load_math_verify()

    def matches(self, response: str, answer: str) -> bool:
        """Whether both mean the same."""
        found, expected = self._read(response), self._read(answer)
        if found is not None and expected is not None:
            return found.equals(expected)
        formulas = _formula(response), _formula(answer)
        return formulas[0] == formulas[1] or equal(*formulas)

    def parsed_answer(self, response: str, prompt: Prompt) -> Hashable:
        """The number, or the formula as it is written."""
        number = super().parsed_answer(response, prompt)
        return _formula(response) if number is None else number


def _formula(text: str) -> str:
    r"""The first formula of a final answer that is not denied, with those that are joined to it; or its first line.

    >>> _formula(r"$\sqrt{2}$ since $x>0$"), _formula(r"$\sqrt{2}$ or $\pi$"), _formula(r"not $2$ but $\pi$")
    ('\\sqrt{2}', '\\sqrt{2},\\pi', '\\pi')
    """
    line = beginnings(final_part(text))[0]
    found: list[str] = []
    end = 0
    for formula in _FORMULA.finditer(line):
        between = line[end : formula.start()]
        if found and not _JOINED.fullmatch(between):
            break
        if not _DENIED.search(between):
            found.append(next(filter(None, formula.groups())))
        end = formula.end()
    return bare(",".join(found) or line)


class Choice(Matcher):
    """The same letter of a multiple choice.

    See ``laser_pl.metrics.words.letter_in`` for what chooses a letter.

    Args:
        letters: The letters that may be chosen.

    >>> Choice().matches("Final answer: (B) Paris", "B"), Choice().matches("A is wrong, so it is (C).", "C")
    (True, True)
    """

    def __init__(self, letters: str = "ABCDE") -> None:
        if not letters.isalpha():
            raise ConfigurationError(f"letters must be letters, got {letters!r}. Set matcher.init_args.letters.")
        self.letters = letters

    def extract(self, text: str) -> str | None:
        """The letter that the text chooses."""
        return letter_in(text, self.letters)


class YesNo(Matcher):
    """Yes or no; true and false count as well, and "not true" is no.

    >>> YesNo().matches("Final answer: Yes, it can.", "true"), YesNo().matches("No doubt, yes.", "yes")
    (True, True)
    """

    def extract(self, text: str) -> str | None:
        """``yes`` or ``no``, as the first such word has it."""
        return yes_or_no(text)


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

    def parsed_answer(self, response: str, prompt: Prompt) -> str | None:
        """The last match in the whole response."""
        return self.extract(response)

    def reads_answer(self, prompt: Prompt) -> bool:
        """Always: one without a match stands for itself."""
        return True
