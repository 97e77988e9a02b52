"""Reward functions of known quality, for ``synthetic.yaml``: each is right with a probability that its name says."""

from __future__ import annotations

import hashlib
from typing import Any


def right_in_9_of_10(prompts: list[Any], completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """1 for the answer and 0 for anything else, but the other way round for a tenth of the responses."""
    return _graded(0.9, prompts, completions, answer)


def right_in_7_of_10(prompts: list[Any], completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """The same, the other way round for three tenths."""
    return _graded(0.7, prompts, completions, answer)


def right_in_5_of_10(prompts: list[Any], completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """The same, the other way round for a half: it knows nothing."""
    return _graded(0.5, prompts, completions, answer)


def _graded(share: float, prompts: list[Any], completions: list[str], answers: list[str]) -> list[float]:
    return [
        float((completion == answer) == (_fraction(share, prompt, completion) < share))
        for prompt, completion, answer in zip(prompts, completions, answers, strict=True)
    ]


def _fraction(*of: object) -> float:
    """A number from 0 to 1 that follows from prompt and response: the same response is always judged the same."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:8], "big") / 2**64
