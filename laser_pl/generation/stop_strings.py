"""Where responses stop because of what they say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from laser_pl.generation.text import text_of

TOKENS_BETWEEN_LOOKS = 16
"""After so many tokens it is seen which responses have ended. What some then have too much is cut off."""


def stopped(tokenizer: Any, ids: Sequence[int], ends: Collection[int], stops: Sequence[str]) -> tuple[int, str] | None:
    """Where a response stops.

    The token that completes a stop string was sampled, so it is trained as well, though the text ends before the string
    as it does in vLLM and in chat endpoints. Special tokens are no text, so they complete none.

    Args:
        tokenizer: The policy's.
        ids: The response's tokens.
        ends: Ids that end a response.
        stops: Texts that end one.

    Returns:
        The number of tokens up to the one that completes the first stop string, and the text before that string; None
        if no stop string is in the response.
    """

    def says(tokens: int) -> bool:
        text = text_of(tokenizer, ids[:tokens], ends)
        return any(stop in text for stop in stops)

    if not says(len(ids)):
        return None
    fewest, enough = 1, len(ids)
    while fewest < enough:
        middle = (fewest + enough) // 2
        if says(middle):
            enough = middle
        else:
            fewest = middle + 1
    text = text_of(tokenizer, ids[:enough], ends)
    return enough, text[: min(text.index(stop) for stop in stops if stop in text)]


class StopStrings(StoppingCriteria):  # type: ignore[misc]
    """Ends responses in ``generate`` that have come to a stop string; it looks every ``TOKENS_BETWEEN_LOOKS`` tokens.

    Only the newest tokens are decoded. A response that is found late is cut all the same, see ``stopped``.

    Args:
        tokenizer: The policy's.
        stops: Texts that end a response; none looks for nothing.
        width: How long the prompts are, in tokens.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], width: int) -> None:
        self.tokenizer = tokenizer
        self.stops = stops
        self.width = width
        # A character takes one token at most, but for those of several bytes.
        self.newest = TOKENS_BETWEEN_LOOKS + max((len(stop.encode()) for stop in stops), default=0)

    def ended(self, tokens: Tensor) -> Tensor:
        """Whether each response, ``(R, T)``, has come to one. Shape ``(R,)``."""
        rows = tokens.tolist() if self.stops else []
        found = [
            any(stop in text_of(self.tokenizer, row[-self.newest :]) for stop in self.stops)
            and stopped(self.tokenizer, row, (), self.stops) is not None
            for row in rows
        ]
        return torch.tensor(found or [False] * len(tokens), dtype=torch.bool, device=tokens.device)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """As ``generate`` asks it after each token, prompts included."""
        tokens = input_ids[:, self.width :]
        if tokens.shape[1] % TOKENS_BETWEEN_LOOKS:
            return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        return self.ended(tokens)
