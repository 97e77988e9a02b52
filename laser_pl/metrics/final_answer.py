"""Where in a response its final answer stands."""

from __future__ import annotations

import re

# What a base model writes when it goes on with the next question, and how chats mark the end of a turn.
_NEXT_QUESTION = re.compile(
    r"\n[#*\s]{0,8}(?:next\s+)?(?:question|problem|exercise|example|instruction|human|user|q)\s*(?:\d*[*\s]*:|\d+[.)])"
    r"|\n\s{0,8}your task is\b|<\|?(?:im_end|im_start|endoftext|eot_id|end_of_text|end_of_turn|/s)\|?>",
    re.IGNORECASE,
)
# The paper asks for "Final answer: ..."; others say "The final answer is", or put it below a heading. Without a verb or
# a colon the words are a mark at a line's start only: "I am confident in this final answer." is none.
_FINAL_ANSWER = re.compile(
    r"(?P<start>^[#*_ \t>]*(?:the\s+)?)?\bfinal\s+answers?\b"
    r"(?P<says>[*_\s]*\b(?:is|are|was|(?:would|should|will|must)\s+be|equals)\b[*_]*[ \t]*:?[*_]*"
    r"|[^\n:=.]{0,40}?[*_`'\")\]\s]*(?::|=|→)[*_`]*"
    r"|[*_\s]+[-\u2013\u2014]\s)?",
    re.IGNORECASE | re.MULTILINE,
)
# GSM8K's own solutions end with "#### 72", and so do those of models that learned from them. A heading of Markdown has
# as many signs, but words behind it.
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*(?P<answer>(?:(?!####)[^\n])*)")
_ANSWER_ALONE = re.compile(
    r"[*_`$\\(\[]*"
    r"(?:[-+\u2212\u2013]?\s?[$€£]?\.?\d(?!\d*\.\s)[^\n]*|boxed\{[^\n]*|(?:[A-Za-z]|yes|no|true|false)[*_`$\\.)\]]*\s*)",
    re.IGNORECASE,
)
_ANSWER_IS = re.compile(
    r"\banswers?\b[*_\s]*(?:(?:is|are|was|(?:would|should|will|must)\s+be)\b[*_]*[ \t]*:?|:)[*_]*", re.IGNORECASE
)
# What a reasoning model thought before it answered; Magistral's mark is the last.
_THOUGHT = re.compile(r"\A.*(?:</(?:\w+:)?think(?:ing)?>|\[/THINK\])", re.DOTALL | re.IGNORECASE)
_NOTHING = re.compile(r"\.(?!\d)|…|<")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def final_part(response: str) -> str:
    """What follows the last mark of a final answer, or the whole response where there is none.

    >>> final_part("3 and 4. Final answer: 7")
    ' 7'
    """
    marked = marked_part(response)
    return own_part(response) if marked is None else marked


def own_part(response: str) -> str:
    r"""The response without its thoughts, and without the next question, which a base model goes on with.

    A question that it begins with, or comes to before it has given a final answer, is its own.

    >>> own_part("Final answer: 18\n\nQuestion: Tom has 5 apples. Final answer: 5")
    'Final answer: 18'
    >>> own_part("<think>Final answer: 5? No.</think>18")
    '18'
    """
    response = _THOUGHT.sub("", response, count=1)
    marks = [*_final_answers(response), *(mark.start("answer") for mark in _hashes(response))]
    for heading in _NEXT_QUESTION.finditer(response, min(marks, default=0)):
        before = response[: heading.start()]
        if before.strip() and (marks or "<" in heading[0] or heading[0].startswith("\n\n")):
            return before
    return response


def marked_part(response: str) -> str | None:
    r"""What follows the last mark of a final answer; None where there is none.

    Marks are, in this order: "Final answer:" and its like; "####", as GSM8K has it; ``\boxed{}``; "the answer is".

    >>> marked_part("So it is 7.\n#### 7\n"), marked_part(r"So it is $\boxed{\frac{3}{4}}$."), marked_part("7")
    ('7', '\\frac{3}{4}', None)
    """
    own = own_part(response)
    final, hashes = _final_answers(own), _hashes(own)
    if final or not hashes:
        part = own[final[-1] :] if final else own
        in_box = boxed(part)
        if final or in_box is not None:
            return part if in_box is None else in_box
        said = [mark.end() for mark in _ANSWER_IS.finditer(own) if _says(own, mark.end())]
        return own[said[-1] :] if said else None
    return hashes[-1]["answer"]


def boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{}``; None where there is none, or it is never closed.

    >>> boxed(r"\boxed{3} or \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    boxes = {opening.end() - 1 for opening in _BOXED.finditer(text)}
    opened: list[int] = []
    last = None
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            start = opened.pop()
            if start in boxes and (last is None or start > last[0]):
                last = start, text[start + 1 : brace.start()]
    return None if last is None else last[1]


def _final_answers(text: str) -> list[int]:
    """Where the first kind of mark ends."""
    return [
        mark.end()
        for mark in _FINAL_ANSWER.finditer(text)
        if (mark["says"] or mark["start"] is not None) and _says(text, mark.end())
    ]


def _hashes(text: str) -> list[re.Match[str]]:
    """The second kind: what stands on their line is an answer; where none is, the last if nothing follows it."""
    marks = [mark for mark in _HASHES.finditer(text) if mark["answer"].strip()]
    alone = [mark for mark in marks if _ANSWER_ALONE.fullmatch(mark["answer"])]
    return alone or [mark for mark in marks[-1:] if not text[mark.end() :].strip()]


def _says(text: str, place: int) -> bool:
    """Whether anything is said from there on; nothing is where the format of an answer is quoted."""
    rest = text[place : place + 200].lstrip(" \t\n*_`$#>\"'")
    return bool(rest) and not _NOTHING.match(rest)
