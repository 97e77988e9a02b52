"""What Lightning iterates over: batches that were made beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from laser_pl.batches import LabelledBatch, PromptBatch, RolloutBatch
from laser_pl.generation.sampling import Sampling
from laser_pl.runtime.process_group import ProcessGroup


class PromptLoader:
    """Batches of prompts, in order, and what whoever answers them has to know of all of them.

    Args:
        batches: This process's.
        sampling: How they are answered.
        categories: Every category that can occur, in every process.
        graded: Whether any prompt of any process has an answer.
    """

    def __init__(
        self, batches: Sequence[PromptBatch], sampling: Sampling, categories: Sequence[str], graded: bool
    ) -> None:
        self.batches = batches
        self.sampling = sampling
        self.categories = categories
        self.graded = graded

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PromptBatch]:
        yield from self.batches


class RolloutLoader:
    """An iteration's batches, from the place where an interrupted run left off.

    Lightning asks for a batch when the one before it was trained and learned from, since the number of batches is
    known. So each can be labelled by what was learned until then.

    Lightning stores ``state_dict`` in its checkpoints and gives it back to the loader of a resumed run.

    Args:
        batches: Of the whole iteration.
        iteration: Counted from 0.

    Attributes:
        label: Labels a batch just before it is handed out; null hands batches out as they are.
    """

    def __init__(self, batches: Sequence[RolloutBatch], iteration: int) -> None:
        self.batches = batches
        self.count = len(batches)
        self.iteration = iteration
        self.served = 0
        self.label: Callable[[RolloutBatch], LabelledBatch] | None = None

    @classmethod
    def ended(cls, count: int, iteration: int) -> RolloutLoader:
        """One that has handed out its ``count`` batches already, for which they are not needed."""
        loader = cls([], iteration)
        loader.count = loader.served = count
        return loader

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[RolloutBatch]:
        while self.served < self.count:
            self.served += 1
            batch = self.batches[self.served - 1]
            yield batch if self.label is None else self.label(batch)

    def state_dict(self) -> dict[str, Any]:
        """How many batches of which iteration were handed out."""
        return {"iteration": self.iteration, "served": self.served}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after them, if they were of this iteration; one that has ended stays so."""
        if state_dict["iteration"] == self.iteration:
            self.served = max(self.served, state_dict["served"])


def share_of(batches: Sequence[PromptBatch], processes: ProcessGroup) -> list[PromptBatch]:
    """This process's batches, every so manyth; as many for each process, the last of them empty where need be."""
    rounds = -(-len(batches) // processes.size)
    own = [batches[number] for number in processes.rows(len(batches))]
    return own + [batch.part([]) for batch in batches[:1]] * (rounds - len(own))
