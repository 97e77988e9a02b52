"""Equally many forwards in every process: where weights are shared out, each takes part in everybody's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
import torch.distributed


class Lockstep:
    """Lets processes with unlike work go through a model whose weights they share out.

    Within ``together`` each forward of the model says that somebody is at work. Who has done its own looks on: as long
    as another is at work, it makes forwards of one token.

    Args:
        model: The module whose forward gathers all others' weights.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._open = False
        model.register_forward_pre_hook(self._at_work, prepend=True)  # before weights are gathered

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block without gradients that every process enters, and in which they exchange nothing else."""
        if self._open:
            yield
            return
        self._open = True
        try:
            yield
        finally:
            self._open = False
        while self._is_anybody_at_work(False):
            with torch.no_grad():
                one_token(self.model)

    def _at_work(self, model: Any, args: Any) -> None:
        if self._open:
            self._is_anybody_at_work(True)

    def _is_anybody_at_work(self, own: bool) -> bool:
        found = torch.tensor(int(own), device=self.model.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return own or bool(found)


def one_token(model: Any) -> torch.Tensor:
    """Logits of a text of one token. Shape ``(1, 1, V)``."""
    tokens = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits


def as_many_everywhere(groups: Sequence[Sequence[list[int]]]) -> list[list[list[int]]]:
    """A process's groups of parts, and empty ones behind, so that all processes have the same numbers; all call it.

    Args:
        groups: Of parts of rows; each part is one forward.
    """
    sizes: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(sizes, [len(group) for group in groups])
    most = [max(lengths) for lengths in zip_longest(*sizes, fillvalue=0)]
    own = [*groups, *([] for _ in range(len(most) - len(groups)))]
    return [[*group, *([] for _ in range(count - len(group)))] for group, count in zip(own, most, strict=True)]
