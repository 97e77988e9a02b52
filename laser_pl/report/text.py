"""Text that a model wrote, made safe to look at."""

from __future__ import annotations

import unicodedata

_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0x200E, 0x200F}
"""Marks that turn the direction of what follows; they would move the text around them as well."""


def visible(text: str) -> str:
    r"""Control characters as pictures and marks of direction by number, so that none of them acts.

    New lines and tabs stay; half a surrogate pair, which no file can hold, becomes U+FFFD.

    >>> visible("a\x1b[31m\u202eb")
    'a␛[31m⟨U+202E⟩b'
    """
    return "".join(_visible(character) for character in text)


def shortened(text: str, limit: int) -> tuple[str, int]:
    """The beginning of a text, and how many characters are left out.

    >>> shortened("abcdef", 4), shortened("abcd", 4)
    (('abcd', 2), ('abcd', 0))
    """
    return text[:limit], max(0, len(text) - limit)


def line(text: str, limit: int = 60) -> str:
    r"""A name or a text in one line.

    >>> line("two\nlines"), line("abcdef", 4)
    ('two lines', 'abc…')
    """
    words = visible(" ".join(text[: 4 * limit].split()))
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _visible(character: str) -> str:
    if character in "\n\t":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if 0xD800 <= code < 0xE000:
        return "\ufffd"
    # C1 controls end lines or move a terminal's cursor; Zl and Zp are separators of lines and paragraphs.
    if code in _TURNING or unicodedata.category(character) in {"Cc", "Zl", "Zp"}:
        return f"⟨U+{code:04X}⟩"
    return character
