"""What a policy can write."""

from __future__ import annotations

from typing import Any


def characters_of(tokenizer: Any) -> str:
    """Every character that a tokenizer's tokens spell, once."""
    texts = tokenizer.batch_decode([[id_] for id_ in range(len(tokenizer))], skip_special_tokens=True)
    return "".join(sorted(set("".join(texts))))
