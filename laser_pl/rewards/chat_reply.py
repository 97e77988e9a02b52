"""What a chat model's reply says: which of the answers, and how likely each was."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from laser_pl.rewards.protocols import ProtocolError, list_under, under

_AROUND = r"[\s*_`\"'()\[\]{}:=.,!#<>$“”|]"
"""What may stand around an answer: white space, quotation marks and Markdown; neither digits nor signs."""
_WORDS = (
    r"(?i:the|my|final|overall|rating|score|answer|verdict|response|grade|choice|preference|winner|assistant|option"
    r"|is|would|be)\b"
)
_LONGEST_LINE = 100
"""Characters; a longer one is no answer, and expressions over a server's text take the longer the longer it is."""
_MOST_TOKENS = 2**53


@dataclass(frozen=True)
class Reply:
    """What a reply came to.

    Attributes:
        answer: The answer that was given; None if none was.
        probabilities: Of the answers at its place, as far as the server gives them; they need not sum to 1.
    """

    answer: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)

    def worth(self, answers: Mapping[str, float]) -> float | None:
        """The expected worth by the probabilities where there are any, else the answer's; None without an answer."""
        if self.answer is None:
            return None
        total = math.fsum(self.probabilities.values())
        if not total > 0:
            return answers[self.answer]
        return math.fsum(answers[name] * p for name, p in self.probabilities.items()) / total


@dataclass(frozen=True)
class Received:
    """A reply as it came.

    Attributes:
        reply: What it came to.
        text: What was said; empty where nothing was.
        tokens: Of the prompt and of the completion, as the server counts them; 0 where it does not.
    """

    reply: Reply
    text: str
    tokens: tuple[int, int]


def received(body: Any, answers: Collection[str]) -> Received:
    """A chat completion.

    A model that will not say (no content, a refusal) gives no answer, which is no fault. Probabilities in another form
    than OpenAI's count as none.

    Args:
        body: Anything that JSON can hold.
        answers: What may be answered.

    Raises:
        ProtocolError: If it is no chat completion.
    """
    choices = list_under(body, "choices")
    if not choices:
        raise ProtocolError(f"there is no choice in {reprlib.repr(body)}")
    text = under(under(choices[0], "message"), "content")
    if text is not None and not isinstance(text, str):
        raise ProtocolError(f"'content' is no text but {reprlib.repr(text)}")
    usage = body.get("usage")
    tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    found = said(text or "", answers)
    if found is None:
        return Received(Reply(), text or "", tokens)
    answer, start = found
    probabilities = _probabilities(choices[0].get("logprobs"), text or "", answer, start, answers)
    return Received(Reply(answer, probabilities), text or "", tokens)


def said(text: str, answers: Collection[str]) -> tuple[str, int] | None:
    r"""Which answer a text gives, and where it begins: alone on the first or the last line; other lines may explain.

    A text that only holds it somewhere ("As an AI I cannot rate these 2") gives none, and neither does one whose first
    line gives another than its last. Thoughts that end in ``</think>`` are not read.

    >>> said("**Rating: 4/5**", "12345"), said("They differ.\n\nAnswer: B.", "AB"), said("A good one is B", "AB")
    (('4', 10), ('B', 22), None)
    """
    start = text.rfind("</think>")
    start = 0 if start < 0 else start + len("</think>")
    lines = [line for line in re.finditer(r"[^\r\n]+", text[start:]) if line.group().strip()]
    pattern = _pattern(answers)
    found = {}
    for line in (lines[:1] + lines[-1:]) if lines else []:
        match = pattern.fullmatch(line.group()) if len(line.group()) <= _LONGEST_LINE else None
        if match:
            found[match["answer"]] = start + line.start() + match.start("answer")
    return next(iter(found.items())) if len(found) == 1 else None


def _pattern(answers: Collection[str]) -> re.Pattern[str]:
    any_of_them = "|".join(re.escape(answer) for answer in sorted(answers, key=len, reverse=True))
    before, behind = rf"{_AROUND}*?(?:{_WORDS}{_AROUND}*?)*?", rf"(?:\s*(?:/|out of)\s*(?:{any_of_them}))?{_AROUND}*"
    return re.compile(rf"{before}(?P<answer>{any_of_them}){behind}")


def _probabilities(logprobs: Any, text: str, answer: str, start: int, answers: Collection[str]) -> dict[str, float]:
    """Those of the answers at the place of the one that was given, if that is one token."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(one, dict) for one in tokens):
        return {}
    pieces = [one.get("token") for one in tokens]
    if not all(isinstance(piece, str) for piece in pieces):
        return {}
    whole = "".join(pieces).rfind(text)  # what stands before it the server has taken out: white space, thoughts
    place = whole + start
    for piece, one in zip(pieces, tokens, strict=True):
        if whole >= 0 and 0 <= place < len(piece) and _bare(piece) == answer:
            return _of_answers(one, answer, answers)
        place -= len(piece)
    return {}


def _of_answers(token: dict[str, Any], answer: str, answers: Collection[str]) -> dict[str, float]:
    top = token.get("top_logprobs")
    by_token: dict[str, float] = {}
    for one in [*(top if isinstance(top, list) else []), token]:
        name, value = (one.get("token"), one.get("logprob")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            return {}
        by_token.setdefault(name, min(1.0, math.exp(min(value, 0))))
    found: dict[str, float] = {}
    for name, probability in by_token.items():
        if _bare(name) in answers:
            found[_bare(name)] = found.get(_bare(name), 0.0) + probability
    # "1" may be the first half of "10" where a tokenizer splits numbers: it does not if "10" is a token.
    halves = [one for one in found if any(other != one and other.startswith(one) for other in answers)]
    if any(other not in found for one in halves for other in answers if other.startswith(one)):
        return {}
    return found if answer in found else {}


def _bare(token: str) -> str:
    return re.sub(rf"^{_AROUND}+|{_AROUND}+$", "", token)


def _count(usage: Any, name: str) -> int:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if type(found) is int and 0 <= found < _MOST_TOKENS else 0
