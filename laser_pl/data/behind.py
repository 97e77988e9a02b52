"""Token ids of a text that stands behind another, which are not always those of the text alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any


def ids_behind(text: str, before: str, tokenizer: Any) -> list[int]:
    """Token ids of ``text`` where it goes on from the tokens of ``before``, as sampling does.

    Tokenizers of the Llama-2 and Mistral kinds put a space before every text that they are given, and would before one
    that is given alone.

    Args:
        text: What follows.
        before: What it follows.
        tokenizer: Any Hugging Face tokenizer.

    Returns:
        What both together have more than ``before``. Where a token would span the two, the ids are those behind a line
        break, or a colon.
    """
    for ahead in (before, "\n", ":"):
        head, whole = plain_ids([ahead, ahead + text], tokenizer)
        if shared_start(head, whole) == len(head):
            return whole[len(head) :]
    return plain_ids([text], tokenizer)[0]


def shared_start(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts begin with alike.

    >>> shared_start([5, 6, 7], [5, 6, 8, 9])
    2
    """
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def plain_ids(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of texts, without special tokens that do not stand in them."""
    # verbose: how long a text may be is reported elsewhere, in the user's own terms.
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return ids
