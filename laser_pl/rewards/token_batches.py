"""Forwards of bounded size: rows of like length together, halved where memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from laser_pl.errors import ConfigurationError
from laser_pl.runtime import progress

log = logging.getLogger(__name__)


class TokenBatches:
    """Groups rows so that a group padded to its longest holds at most ``max_tokens`` tokens.

    A row longer than that goes alone. A group that runs out of memory halves the bound, for all that follows, with one
    warning; so no size is tried twice.

    Args:
        max_tokens: Bound on a forward's tokens, padding included.
    """

    def __init__(self, max_tokens: int) -> None:
        if max_tokens < 1:
            raise ConfigurationError(f"max_tokens_per_batch must be >= 1, got {max_tokens}. Set it in the config.")
        self.max_tokens = max_tokens

    def run(self, lengths: Sequence[tuple[int, ...]], forward: Callable[[list[int]], Tensor]) -> Tensor:
        """One number for every row.

        Args:
            lengths: Tokens of each of the ``R`` rows, for each part that is padded by itself.
            forward: From the indices of some rows to their numbers.

        Returns:
            Shape ``(R,)``, in float32 or wider, on the CPU.

        Raises:
            RuntimeError: If a row alone runs out of memory.
        """
        # Part by part: responses to one prompt stay together, so that it can be read once.
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        values = torch.empty(len(lengths))
        done = 0
        while done < len(order):
            group = self._next_group(order[done:], lengths)
            part = self._forward(group, forward)
            if part is None:
                tokens = padded_tokens([lengths[row] for row in group])
                self.max_tokens = max(tokens // 2, 1)
                log.warning(
                    "Out of memory with %d tokens in a forward; goes on with at most %d. Set max_tokens_per_batch to"
                    " that to spare the attempt.", tokens, self.max_tokens,
                )  # fmt: skip
                continue
            values = values.to(part.dtype)
            values[group] = part
            done += len(group)
            progress.advance(len(group))
        return values

    def _next_group(self, order: Sequence[int], lengths: Sequence[tuple[int, ...]]) -> list[int]:
        widest = lengths[order[0]]
        for size, row in enumerate(order[1:], start=1):
            widest = tuple(map(max, widest, lengths[row]))
            if (size + 1) * sum(widest) > self.max_tokens:
                return list(order[:size])
        return list(order)

    def _forward(self, group: list[int], forward: Callable[[list[int]], Tensor]) -> Tensor | None:
        """The group's numbers, or None if memory does not suffice for it."""
        try:
            values = forward(group)
        except (RuntimeError, MemoryError) as error:
            if len(group) == 1 or not is_out_of_memory(error):
                raise
        else:
            return values.to("cpu", torch.promote_types(values.dtype, torch.float32))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


def padded_tokens(lengths: Sequence[tuple[int, ...]]) -> int:
    """Tokens of rows whose parts are each padded to the longest.

    >>> padded_tokens([(4, 1), (2, 3)])
    14
    """
    widest: list[int] = [max(part) for part in zip(*lengths, strict=True)]
    return len(lengths) * sum(widest)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an accelerator or the host could not allocate; torch has no one class for both."""
    text = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "can't allocate memory" in text or "not enough memory" in text
    )
