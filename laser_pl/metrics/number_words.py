"""Numbers that are written as English words."""

from __future__ import annotations

import re

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: value for value, word in enumerate(_ONES)} | {word: 10 * tens for tens, word in enumerate(_TENS, 2)}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORD = rf"(?:{'|'.join([*_SMALL, 'hundred', *_LARGE])})"
_WORDS = re.compile(rf"(minus |negative )?({_WORD}(?:(?:[ -]|,? and ){_WORD})*)\b(?! of\b| that\b| who\b|-)", re.I)
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
          "ninth": 9, "tenth": 10}  # fmt: skip
_PART = re.compile(
    rf"(?:\b(?P<whole>{_WORD}(?:[ -]{_WORD})*) and )?\b"
    rf"(?:(?:an?|one)[ -](?P<part>{'|'.join(_PARTS)})"
    rf"|(?P<some>{'|'.join(_ONES[2:10])})[ -](?P<parts>halve|{'|'.join(_PARTS)})s)\b"
    r"(?! (?:more|less|as)\b)",
    re.I,
)


def fractions_in_digits(text: str) -> str:
    """Halves, thirds and their like as digits.

    >>> fractions_in_digits("three and a half, or 3 and a half"), fractions_in_digits("two thirds of one third more")
    ('3 1/2, or 3 and 1/2', '2/3 of one third more')
    """
    return _PART.sub(_digits, text)


def _digits(found: re.Match[str]) -> str:
    whole = number_in_words(found["whole"]) if found["whole"] else None
    some = _SMALL[found["some"].lower()] if found["some"] else 1
    of = _PARTS[(found["part"] or found["parts"]).lower().replace("halve", "half")]
    return f"{'' if whole is None else f'{whole} '}{some}/{of}"


def number_in_words(text: str) -> int | None:
    """The number that ``text`` begins with; None where it begins with none.

    >>> number_in_words("Twenty-one eggs"), number_in_words("two thousand and five"), number_in_words("one of them")
    (21, 2005, None)
    """
    found = _WORDS.match(text.strip(" .:*\"'("))
    if found is None:
        return None
    total = part = 0
    for word in re.split(r"[ ,-]+(?:and )?", found[2].lower()):
        if word in _SMALL:
            # "two three" is no number, "twenty three" is one.
            if part % 100 and not (part % 100 >= 20 and part % 10 == 0 and 0 < _SMALL[word] < 10):
                return None
            part += _SMALL[word]
        elif word == "hundred":
            part = max(part, 1) * 100
        else:
            total, part = total + max(part, 1) * _LARGE[word], 0
    return (-1 if found[1] else 1) * (total + part)
