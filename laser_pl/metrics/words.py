"""Answers that are a word or a letter, in sentences."""

from __future__ import annotations

import re
import string

from laser_pl.metrics.plain_text import plain

_WRAPPINGS = [("**", "**"), ("*", "*"), ("__", "__"), ("_", "_"), ("`", "`"), ("$", "$"), ('"', '"'), ("'", "'"),
              ("“", "”"), ("\\(", "\\)"), ("\\text{", "}"), ("\\boxed{", "}")]  # fmt: skip
_SENTENCE_END = re.compile(r"[.!?](?=\s)")


def bare(text: str) -> str:
    r"""Text without white space, one full stop and what wraps the whole of it: Markdown, quotes, LaTeX.

    >>> bare(" **kitten.** "), bare(r"\(\text{kitten}\)."), bare("."), bare("a * b")
    ('kitten', 'kitten', '.', 'a * b')
    """
    before = None
    text = text.strip()
    while text != before:
        before = text
        if len(text) > 1 and text.endswith(".") and not text.endswith(".."):
            text = text[:-1].rstrip()
        for half in ("**", "__", "`"):  # the other stands before the mark of the answer
            if text.endswith(half) and len(text) > len(half) and half not in text[: -len(half)]:
                text = text[: -len(half)].rstrip()
        for opening, closing in _WRAPPINGS:
            inside = text[len(opening) : len(text) - len(closing)]
            whole = text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing)
            if whole and opening not in inside and closing not in inside:
                text = inside.strip()
                break
    return text


def beginnings(text: str) -> list[str]:
    r"""The first line that is not empty, and its first sentence.

    >>> beginnings("\nkitten. I am sure.\nIt is young.")
    ['kitten. I am sure.', 'kitten']
    """
    line = text.strip().split("\n")[0]
    return [line, _SENTENCE_END.split(line)[0]]


# "No" answers before a pause or a reason; before a noun it only counts something ("no doubt", "no evidence").
_REASON = r"(?:because|since|as|it|he|she|they|there|this|that|these|those|the|i|we|you|not|its|his|her|their)"
_VERDICT = re.compile(
    rf"\b(?P<neither>neither)\b|\b(?:yes (?:or|and) no|true (?:or|and) false|yes/no|true/false)\b"
    rf"|(?:\b(?:not|never|cannot|hardly|far from)|n't)\s+(?:\w+\s+){{0,2}}?"
    rf"(?P<negated>true|false|yes|no|correct|incorrect|right|wrong)\b"
    rf"|\b(?P<plain>yes|true|false)\b|\bno\b(?=\s*(?:[^\w\s'-]|$|\n)|\s+{_REASON}\b)",
    re.IGNORECASE,
)
_YES = {"yes", "true", "correct", "right"}


def yes_or_no(text: str) -> str | None:
    """What a text answers; None where it does not.

    >>> yes_or_no("No doubt, yes."), yes_or_no("That is not entirely true."), yes_or_no("yes or no"), yes_or_no("No.")
    ('yes', 'no', None, 'no')
    """
    text = plain(text)
    for found in _VERDICT.finditer(text):
        if found["neither"]:
            return None
        if found["negated"]:
            return "no" if found["negated"].lower() in _YES else "yes"
        if found["plain"]:
            return "yes" if found["plain"].lower() in _YES else "no"
        if found[0].lower() == "no":
            return "no"
    return "no" if re.match(r"\W*no\b(?! (?:doubt|question|matter))", text, re.IGNORECASE) else None


_AROUND = string.punctuation + string.whitespace
_RULED_OUT = (
    r"(?:is|are|was)(?:\s+(?:also|clearly|just|simply|obviously))?(?:\s+(?:wrong|incorrect|false|out)\b"
    r"|(?:n't|\s+not)(?=\s*(?:[^\w\s]|$)|\s+(?:correct|right|true|possible|it|the)\b))"
)


def letter_in(text: str, letters: str) -> str | None:
    """The letter of a multiple choice that a text chooses; None where it chooses none, or several.

    It is the only letter there is, in either case; or the letter that the text begins with, that a word such as
    "option" or "is" goes before, or that stands in parentheses; or a lone capital. What is ruled out ("not C", "A is
    wrong") does not count, nor does the article in "a cat". Several letters of one kind choose none.

    Args:
        text: What was answered.
        letters: Those that may be chosen.

    >>> [letter_in(text, "ABCD") for text in ("b).", "I'd say B, not C", "A cat", "A or B", "(C) since A is wrong")]
    ['B', 'B', None, None, 'C']
    """
    one = f"[{letters.upper()}{letters.lower()}]"
    capital = f"[{letters.upper()}]"
    text = plain(text)
    alone = re.fullmatch(rf"(?:(?:option|choice|answer|letter)\W{{0,3}})?({one})", text.strip(_AROUND), re.IGNORECASE)
    if alone:
        return alone[1].upper()
    ends = r"(?![\w'])"
    text = re.sub(
        rf"(?:\b[Nn]ot|\bcannot|n't)\s+(?:be\s+)?(?:option\s+)?\(?{capital}\)?{ends}"
        rf"|(?:(?:^|(?<=[.;!?]\s))(?:\(?{capital}\)?(?:\s*,|\s+and|\s+or)\s+)+)?\(?\b{capital}\b\)?\s+{_RULED_OUT}",
        " ",
        text,
    )
    # In "A cat" the letter is an article; "A is", "A because" are not.
    article = r"(?:(?<!A)|(?!\s+(?!is\b|are\b|was\b|because\b|since\b|as\b|and\b|or\b|from\b)[a-z]))"
    joined = r"\s*(?:/|&|\band\b|\bor\b)\s*"
    also = re.compile(
        rf"\)?(?:,\s*)?{joined}\(?{capital}{ends}|(?<=\))\s*,\s*\({capital}\)|(?<=^.)(?:,\s*|\s+){capital}\W*(?:$|{joined})"
    )
    patterns = [
        rf"^\W*({one})\s?[).:](?!\w)|^\W*({capital}){ends}{article}",
        rf"\b(?:option|choice|letter)\s*:?\s*\(?({one}){ends}"
        r"|\b(?:is|be|answer|say|choose|chose|pick|select|with|therefore|so|thus|hence)\b\s*:?\s*"
        rf"(?:\(({one})\)|({capital}){ends}{article})"
        rf"|\(?({capital})\)?\s+is\s+(?:the\s+)?(?:correct|right|true|best|answer)",
        rf"\(({one})\)",
        rf"(?<![\w'])({capital}){ends}{article}",
    ]
    for pattern in patterns:
        chosen = list(re.finditer(pattern, text))
        found = {next(filter(None, match.groups())).upper() for match in chosen}
        if found:
            several = len(found) > 1 or any(also.match(text, match.end()) for match in chosen)
            return None if several else found.pop()
    return None
