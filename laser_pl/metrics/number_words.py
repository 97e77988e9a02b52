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
