"""The processes of a run: which rows of a batch are whose, and how what each found is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from laser_pl.run.state import digest

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """This process among all of the run.

    Every process holds the whole batch and the whole bandit; the rows are dealt out in turn for what is expensive,
    scoring and training. What comes of it is exchanged, so that all go on from the same.

    Attributes:
        rank: This process, counted from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, trainer: Trainer) -> ProcessGroup:
        """The processes of a trainer."""
        return cls(trainer.global_rank, trainer.world_size)

    def rows(self, count: int, rank: int | None = None) -> list[int]:
        """Which of ``count`` rows are this process's, or another's.

        >>> ProcessGroup(rank=1, size=2).rows(5)
        [1, 3]
        """
        return list(range(self.rank if rank is None else rank, count, self.size))

    def rank_of(self, row: int) -> int:
        """Whose row it is."""
        return row % self.size

    def gather(self, value: T) -> list[T]:
        """What every process has, by rank; all must call it. Tensors have to be on the CPU."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def together(self, own: Tensor, count: int) -> Tensor:
        """All rows, of which each process has its own.

        Args:
            own: This process's, in the order of ``rows``. Shape ``(rows, ...)``.
            count: How many rows there are in all.

        Returns:
            On the device of ``own``. Shape ``(count, ...)``.
        """
        if self.size == 1:
            return own
        result = own.new_empty(count, *own.shape[1:])
        for rank, part in enumerate(self.gather(own.cpu())):
            result[self.rows(count, rank)] = part.to(own.device)
        return result

    def check_equal(self, state: Any, what: str) -> None:
        """Make sure that every process has the same state, to the last bit.

        Args:
            state: Tensors and builtins.
            what: Its name, for the message.

        Raises:
            RuntimeError: If not.
        """
        digests = self.gather(digest(state))
        odd = [rank for rank, other in enumerate(digests) if other != digests[0]]
        if odd:
            raise RuntimeError(f"{what} of process {odd[0]} is not that of process 0.")
