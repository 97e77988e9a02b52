"""What token ids say, and which of them say anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


def text_of(tokenizer: Any, ids: Sequence[int], ends: Collection[int] = ()) -> str:
    """The text of a response's tokens. All that is shown, judged, graded and exported of a response is this.

    The tokenizer's "clean-up", which Llama 3's asks for, is left out: it drops spaces before punctuation, so that the
    text would be another one than was sampled, and than is trained.

    Args:
        tokenizer: The policy's.
        ids: What was sampled, without what pads it.
        ends: Ids that end a response. The last token is no text if it is one of them, special to the tokenizer or not.
    """
    own = list(ids[:-1] if ids and ids[-1] in ends else ids)
    return str(tokenizer.decode(own, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def unknown_ids(tokenizer: Any, size: int) -> list[int]:
    """Ids below ``size`` that are no token: vocabularies are padded to a round number, or have holes.

    Args:
        tokenizer: The policy's.
        size: How many ids the model gives a probability to.
    """
    return sorted(set(range(size)).difference(tokenizer.get_vocab().values()))
