r"""Text without its markup: LaTeX, Markdown and typographic signs as plain characters."""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]+")
_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|emph|bf|rm)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_SIGNED_INTEGER = re.compile(r"\s*[-+]?\s*\d+\s*")
_REPLACED = [
    (re.compile(r"<<[^<>\n]*>>"), ""),  # what GSM8K's calculator worked out
    (re.compile(r"(?<=\d)\s*\*\*\s*(?=\d)"), "^"),  # Python's power, before "**" is taken for bold
    (re.compile(r"\\(?:left|right|displaystyle|limits|quad|qquad|big|Big)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:approx|simeq)(?![A-Za-z])|[≈≃]"), "="),
    (re.compile(r"\\(?:circ|degree)(?![A-Za-z])|\^\s*\{?\\circ\}?"), "°"),
    (re.compile(r"\\[()\[\],;:! ]|\\\\|~"), " "),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"(?<!\d)\$(?!\s*[-\d.,])|(?<=[\d.)}])\$"), " "),  # of a formula, not of money
    (re.compile(r"\*\*|__|`|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)"), ""),
    (re.compile(r"\\(?:cdot|times|ast)(?![A-Za-z])|[\u00d7\u00b7\u22c5\u2217]"), "*"),
    (re.compile("[\u2018\u2019]"), "'"),
    (re.compile(r"\^\s*\{\s*([-+]?\d+)\s*\}"), r"^\1"),
    (re.compile(r"\^\s*\(\s*([-+]?\d+)\s*\)"), r"^\1"),
]
# A hyphen of any kind and the true minus; dashes are a minus where they touch the number, and else punctuation.
_MINUS = re.compile(r"[\u2212\u2010\u2011\ufe63\uff0d\u207b]|[\u2012\u2013](?=\s?[$€£]?\.?\d)")
_DASH = re.compile(r"[\u2012-\u2015]")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!,?|,\\!)(?=\d{3})")


def plain(text: str) -> str:
    r"""Digits, signs, fractions and powers as ASCII has them; markup gone.

    >>> plain(r"**Final:** $\dfrac{3}{4}$"), plain("\u22121½ · 10³"), plain(r"\$1{,}000 \text{ km}")
    ('Final: $3/4', '-1 1/2 * 10^3', '$1,000   km')
    """
    text = _RAISED.sub(lambda raised: "^" + raised[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", _VULGAR.sub(" ", _MINUS.sub("-", text))).replace("\u2044", "/")
    text = "".join(_ascii_digit(character) for character in text)
    text = _DASH.sub("; ", text)
    text = _THOUSANDS.sub(",", text)
    for _ in range(4):  # one in another
        text = _FRACTION.sub(_written_out, _TEXT.sub(r" \1", text))
    for pattern, instead in _REPLACED:
        text = pattern.sub(instead, text)
    return text.strip()


def _ascii_digit(character: str) -> str:
    return str(unicodedata.decimal(character)) if not character.isascii() and character.isdecimal() else character


def _written_out(fraction: re.Match[str]) -> str:
    """``a/b`` of integers; anything else stays in parentheses, and is no number."""
    above, below = (fraction[1] or fraction[2] or ""), (fraction[3] or fraction[4] or "")
    if _SIGNED_INTEGER.fullmatch(above) and _SIGNED_INTEGER.fullmatch(below):
        before = fraction.string[fraction.start() - 1 : fraction.start()]
        return f"{' ' if before.isdigit() else ''}{above.strip()}/{below.strip()}"
    return f"({above})/({below})"
