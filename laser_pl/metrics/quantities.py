r"""Numbers in sentences: which one is the answer, and how much it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from laser_pl.metrics.number_words import fractions_in_digits, number_in_words
from laser_pl.metrics.plain_text import plain

Value = Decimal | Fraction
"""Exact either way, and equal where they are the same number."""

_LONGEST_INTEGER = 1000
"""Digits of an integer that is divided or raised to a power; more are not worked out."""

# Thousands are set off by commas (in India hundreds of them, in East Asia tens), apostrophes and spaces; by dots where
# that is plain.
_INTEGER = (
    r"(?:\d{1,3}(?:,\d{3}){1,20}(?!,?\d)|\d{1,2}(?:,\d{2}){1,20},\d{3}(?!,?\d)|\d{1,4}(?:,\d{4}){1,20}(?!,?\d)"
    r"|\d{1,3}(?:[ ']\d{3}){1,20}(?!\d)|\d+)"
)
_QUANTITY = re.compile(
    rf"(?<![\w.^])(?P<sign>[-+]\s?)?(?P<money>[$€£¥₹]\s?)?(?P<inner_sign>-)?"
    rf"(?:(?P<whole>\d+)\s(?:and\s)?(?P<part>\d+)\s?/\s?(?P<of>\d+)"  # 1 1/2
    rf"|(?P<above>{_INTEGER})\s?/\s?(?P<below>-?\d+)"
    r"|(?P<dotted>\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})(?!\d)"  # 1.234.567 and 1.234,5
    rf"|(?P<decimal>{_INTEGER}(?:\.\d+)?|\.\d+)"
    r"(?:\s?(?:[x*]\s?10\s?\^|(?<=\d)e)\s?(?P<exponent>[-+]?\d{1,5})(?!\.?\d|\^)"
    r"|\s?\^\s?(?P<power>-?\d{1,4})(?!\.?\d|\^))?)"
    r"(?:\s?(?P<percent>%|per\s?cent\b)|\s(?P<scale>hundred|thousand|million|billion|trillion)\b"
    r"|(?P<letter>(?(money)(?:k|m|bn?)|(?-i:k)))(?![^\W_]))?",  # 3k; $3m, but 3 m are metres
    re.IGNORECASE,
)
_SCALES = {"": 0, "hundred": 2, "thousand": 3, "k": 3, "million": 6, "m": 6, "billion": 9, "b": 9, "bn": 9,
           "trillion": 12}  # fmt: skip
# A part of another number: 2x, 2\pi, 3^n, 3:2, 1/2/3, 1,23, 5(a+b), 2i, 2e, 2 + x; \sqrt{2}, x/2, \pm 3, x^2, x + 2.
_GOES_ON = re.compile(
    r"\s?\}?(?:\^|[√π∞±]|\\[a-z])|\s?/(?!\s?(?:[a-z]{3,}|hr|kg))|:\d|[.,]\d|\(|\s?[xyz](?![a-z])|[ie](?!\w)|e[-+]?\d"
    r"|\s?(?:[+*]\s?[a-z](?![a-z'])|-\s?[b-hj-z](?![a-z'])|[-+*]\s?[\\(])",
    re.IGNORECASE,
)
_BEGUN = re.compile(
    r"(?:[√^/_±{]|/\(|\\[a-z]+(?:_\{?\w+\}?)?\s*[{(]?|\w\(|(?:(?<![a-z])[a-z]|[)}])\s?[-+*]|\bnot\s)\s?$", re.IGNORECASE
)
# Between two numbers neither of which is the answer alone: a list, a range, a sum, or 5 feet 3 inches.
_TOGETHER = re.compile(
    r"\s*(?:[^\W\d]+|[%°])?\s*(?:[,;:/+*^-]|\b(?:and|or|to|plus|minus|times|x)\b|(?<=\s))\s*(?:and|or)?\s*",
    re.IGNORECASE,
)
_HEDGES = r"(?:it|that|so|only|about|around|approximately|roughly|exactly|just|nearly|at least|a total of)\s+"
_BEFORE = re.compile(rf"\W*(?:{_HEDGES})*", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|equals?|makes?|made|has|have|had|gets?|got|earns?|earned|costs?|needs?|pays?|paid)\b",
    re.IGNORECASE,
)
_EQUAL = re.compile(r"[=≈]|\bequals\b")
_INEQUALITY = re.compile(r"[<>≤≥≠]|\\(?:l|g|n)eq?(?![a-z])")
_UNKNOWN = re.compile(r"\b[a-z]\s*=", re.IGNORECASE)
_MINUS = re.compile(r"\b(?:negative|minus)\s+(?=[$\d.])", re.IGNORECASE)
_ASIDE = re.compile(r"(?<=\s)\([^()]*\)")
_REASON = re.compile(r"\b(?:since|because)\b.*", re.IGNORECASE | re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=\D)|\n")


@dataclass(frozen=True)
class Quantity:
    """A number as it is written.

    Attributes:
        value: None where it is only a part of a number, as the 2 of "2x".
        percent: Whether it is a percentage.
        start: Where it begins.
        end: Where it ends.
    """

    value: Value | None
    percent: bool
    start: int = 0
    end: int = 0

    def equals(self, other: Quantity) -> bool:
        """Whether both are one number. Units do not count, but 50 % is 0.5 as well as 50."""
        if self.value is None or other.value is None:
            return False
        if self.percent != other.percent:
            share, number = (self, other) if self.percent else (other, self)
            if Fraction(share.value or 0) / 100 == number.value:
                return True
        return self.value == other.value


def answered(text: str) -> Quantity | None:
    """The number that a final answer begins with, or comes to: units, reasons and further sentences may follow.

    >>> answered("$18 per day for 7 days.").value, answered("3 + 4 = 7 eggs").value, answered("7 or 8")
    (Decimal('18'), Decimal('7'), None)
    """
    for sentence in _sentences(text):
        reasonless = _REASON.sub("", sentence)
        if _QUANTITY.search(reasonless):
            return _leading(reasonless)
        if _QUANTITY.search(sentence):
            return _leading(sentence)
        word = number_in_words(_BEFORE.sub("", _from_verb(sentence), count=1))
        if word is not None:
            return Quantity(Decimal(word), False)
    return None


def last(text: str) -> Quantity | None:
    """The last number in a text that does not say which is its answer.

    >>> last("She has 5 eggs. She buys 2, so 5 + 2 = 7.").value, last("7 is 5 + 2")
    (Decimal('7'), None)
    """
    for sentence in reversed(_sentences(text)):
        found = quantities(sentence)
        if found:
            if _EQUAL.search(sentence):
                return _leading(sentence)
            together = len(found) > 1 and _together(sentence, found[-2], found[-1])
            return None if together or found[-1].value is None else found[-1]
    return None


def quantities(text: str) -> list[Quantity]:
    """All numbers in plain text."""
    found = []
    for match in _QUANTITY.finditer(text):
        before = text[max(0, match.start() - 20) : match.start()] + (match["sign"] or "")
        part = _GOES_ON.match(text, match.end()) or _BEGUN.search(before)
        found.append(Quantity(None if part else _value(match), match["percent"] is not None, *match.span()))
    return found


def _sentences(text: str) -> list[str]:
    text = _MINUS.sub("-", fractions_in_digits(plain(text)))
    return [sentence for sentence in _SENTENCE.split(text) if sentence.strip()]


def _leading(sentence: str) -> Quantity | None:
    """The number that a sentence with numbers gives for its answer."""
    if _INEQUALITY.search(sentence) or len(_UNKNOWN.findall(sentence)) > 1:
        return None
    sides = _EQUAL.split(sentence)
    for side in reversed(sides):
        said = _from_verb(side)
        if quantities(_ASIDE.sub(" ", said)):  # "five (5)" says it in an aside
            said = _ASIDE.sub(" ", said)
        found = quantities(said)
        if not found:
            continue
        first = _BEFORE.fullmatch(said[: found[0].start]) is not None
        if len(found) > 1 and _together(said, *(found[:2] if first else found[-2:])):
            chosen = None
        else:
            chosen = found[0] if first else found[-1]
        if chosen is not None and chosen.value is not None:
            return chosen
    return None


def _together(text: str, first: Quantity, second: Quantity) -> bool:
    between = re.sub(r"\s+", " ", text[first.end : second.start])  # in a long run of blanks all of \s* could begin
    return _TOGETHER.fullmatch(between) is not None


def _from_verb(sentence: str) -> str:
    """What follows the first verb, where a sentence begins with something else than a number."""
    verb = _VERB.search(sentence)
    number = _QUANTITY.search(sentence)
    if verb is None or (number and _BEFORE.fullmatch(sentence[: number.start()])):
        return sentence
    after = sentence[verb.end() :]
    return after if number is None or _QUANTITY.search(after) else sentence


def _value(match: re.Match[str]) -> Value | None:
    minus = "-" if (match["sign"] or "").startswith("-") != (match["inner_sign"] is not None) else ""
    scale = _SCALES[(match["scale"] or match["letter"] or "").lower()]
    if match["dotted"]:
        return Decimal(f"{minus}{match['dotted'].replace('.', '').replace(',', '.')}e{scale}")
    if match["decimal"] and not match["power"]:
        digits = re.sub(r"[ ,']", "", match["decimal"])
        return Decimal(f"{minus}{digits}e{int(match['exponent'] or 0) + scale}")
    try:
        value = _fraction(match)
    except ZeroDivisionError:
        return None
    return None if value is None else value * 10**scale * (-1 if minus else 1)


def _fraction(match: re.Match[str]) -> Fraction | None:
    """Of whole numbers, or a power of one."""
    whole, part, of, above, below, base, power = (
        re.sub(r"[ ,']", "", match[name] or "0")
        for name in ("whole", "part", "of", "above", "below", "decimal", "power")
    )
    longest = max(len(digits) for digits in (whole, part, of, above, below))
    if longest > _LONGEST_INTEGER or len(base) * abs(int(power)) > _LONGEST_INTEGER:
        return None
    if match["power"]:
        return Fraction(base) ** int(power)
    if match["above"]:
        return Fraction(int(above), int(below))
    return int(whole) + Fraction(int(part), int(of))
