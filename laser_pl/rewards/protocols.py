"""How reward servers are asked, and how their answers are read."""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any


@dataclass(frozen=True)
class Item:
    """One response as it is sent.

    Attributes:
        prompt: The prompt as text.
        response: The response.
        text: Both, as the server's model is to read them.
        answer: The reference answer, where there is one.
    """

    prompt: str
    response: str
    text: str
    answer: str | None


class ProtocolError(ValueError):
    """A server answered, but not as the protocol says."""


class Protocol(ABC):
    """The body of a request, and the scores in the body of its answer."""

    @abstractmethod
    def request(self, items: Sequence[Item]) -> dict[str, Any]:
        """What is sent, for JSON."""

    @abstractmethod
    def scores(self, answer: Any) -> list[Any]:
        """What was answered, one score for each item, in order.

        Args:
            answer: Anything that JSON can hold.

        Raises:
            ProtocolError: If that is not what the protocol says.
        """


class OpenRLHF(Protocol):
    """OpenRLHF's remote reward model.

    ``{"query", "prompts", "labels"}`` is answered by ``{"rewards"}``. ``query`` holds prompt and response together. Its
    own server (``openrlhf.cli.serve_rm``) reads that alone.
    """

    def request(self, items: Sequence[Item]) -> dict[str, Any]:
        """Queries, prompts and labels, one of each for every response."""
        return {
            "query": [item.text for item in items],
            "prompts": [item.prompt for item in items],
            "labels": [item.answer for item in items],
        }

    def scores(self, answer: Any) -> list[Any]:
        """The list under ``rewards``."""
        return list_under(answer, "rewards")


class VllmClassify(Protocol):
    """vLLM's ``/classify``, also SGLang's.

    ``{"model", "input"}`` is answered by ``{"data": [{"index", "probs"}]}``.

    Args:
        model: The name under which the server serves the model.
        head_weights: How much each class counts; null for a reward model, which has one.
    """

    def __init__(self, model: str, head_weights: list[float] | None = None) -> None:
        self.model = model
        self.head_weights = head_weights

    def request(self, items: Sequence[Item]) -> dict[str, Any]:
        """The model and the texts."""
        return {"model": self.model, "input": [item.text for item in items]}

    def scores(self, answer: Any) -> list[Any]:
        """The weighted sum of each text's class probabilities."""
        weights = [1.0] if self.head_weights is None else self.head_weights
        found = []
        for entry in _by_index(list_under(answer, "data")):
            probabilities = list_under(entry, "probs")
            if len(probabilities) != len(weights):
                raise ProtocolError(
                    f"{len(probabilities)} classes came back, and head_weights says how much each of {len(weights)}"
                    " counts"
                )
            found.append(sum(w * _number(p) for w, p in zip(weights, probabilities, strict=True)))
        return found


class VllmScore(Protocol):
    """vLLM's ``/score``.

    ``{"model", "text_1", "text_2"}`` is answered by ``{"data": [{"index", "score"}]}``. The prompt is the first text
    and the response the second; the server's model joins them in its own way.

    Args:
        model: The name under which the server serves the model.
    """

    def __init__(self, model: str) -> None:
        self.model = model

    def request(self, items: Sequence[Item]) -> dict[str, Any]:
        """The model, the prompts and the responses."""
        return {
            "model": self.model,
            "text_1": [item.prompt for item in items],
            "text_2": [item.response for item in items],
        }

    def scores(self, answer: Any) -> list[Any]:
        """The score of each pair; some versions put it into a list of one."""
        values = [under(entry, "score") for entry in _by_index(list_under(answer, "data"))]
        return [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]


def under(answer: Any, key: str) -> Any:
    """What an answer has under a key.

    Raises:
        ProtocolError: If there is nothing.
    """
    if not isinstance(answer, dict) or key not in answer:
        raise ProtocolError(f"there is no {key!r} in {reprlib.repr(answer)}")
    return answer[key]


def list_under(answer: Any, key: str) -> list[Any]:
    """The same, of what has to be a list."""
    found = under(answer, key)
    if not isinstance(found, list):
        raise ProtocolError(f"{key!r} is no list but {reprlib.repr(found)}")
    return found


def _by_index(entries: list[Any]) -> list[Any]:
    """Entries in the order of the request; the protocol numbers them and promises none. Unnumbered ones stay."""
    if not any(isinstance(entry, dict) and "index" in entry for entry in entries):
        return entries
    places = [under(entry, "index") for entry in entries]
    if any(type(place) is not int for place in places) or sorted(places) != list(range(len(places))):
        raise ProtocolError("the entries are not numbered from 0 on, once each")
    return sorted(entries, key=itemgetter("index"))


def _number(value: Any) -> float:
    """A number as it came, also NaN or an infinite one: that is the pool's to count."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ProtocolError(f"{reprlib.repr(value)} is no number")  # short, and no deeper than its message can show
    try:
        return float(value)
    except OverflowError:
        raise ProtocolError("there is a whole number too large to be a score") from None


def checked(scores: Sequence[Any], count: int) -> list[float | None]:
    """Scores as numbers; null is no opinion.

    Raises:
        ProtocolError: If there are not ``count`` of them, or one is neither a number nor null.
    """
    if len(scores) != count:
        raise ProtocolError(f"{len(scores)} scores came back for {count} responses")
    return [None if score is None else _number(score) for score in scores]
