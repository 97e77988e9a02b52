"""The reward models of a run, asked by all its processes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.rewards.pool import Answer, Pool
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.selection.fallback import Labels


@dataclass
class Panel:
    """Asks about rows of a batch that every process has. Each process scores its own rows, and gets the others' scores.

    Attributes:
        pool: The reward models.
        device: Where they run.
        processes: The processes.
    """

    pool: Pool
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    processes: ProcessGroup = field(default_factory=ProcessGroup)

    def ask(self, name: str, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], rows: Sequence[int]) -> Labels:
        """One reward model's labels for some rows; none if it is aside.

        Args:
            name: The reward model.
            prompts: Of the whole batch, ``B``.
            texts: ``n`` responses to each.
            rows: Which of them it is asked about.
        """
        labels = torch.full((len(prompts), len(texts[0])), torch.nan, dtype=torch.float64)
        failed = not self.pool.health.may_be_asked(name)  # put aside for another decision of the same batch
        if not failed:
            own = [row for row in rows if self.processes.rank_of(row) == self.processes.rank]
            answers = self.gathered(name, [prompts[row] for row in own], [texts[row] for row in own])
            self.pool.note(name, answers)
            failed = any(answer.failure is not None for answer in answers)
            for rank, answer in enumerate(answers):
                theirs = [row for row in rows if self.processes.rank_of(row) == rank]
                labels[theirs] = answer.labels.reshape(len(theirs), labels.shape[1])
        return Labels(labels[list(rows)], failed)

    def ask_all(
        self, names: Sequence[str], prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], rows: Sequence[int]
    ) -> Tensor:
        """Several reward models' scores of the same rows. Shape ``(K, len(rows), n)``."""
        return torch.stack([self.ask(name, prompts, texts, rows).scores for name in names])

    def survey(self, name: str, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]) -> Tensor:
        """One reward model's scores of any responses, for which nobody is put aside; forwards and seconds are counted.

        Args:
            name: The reward model.
            prompts: ``R`` prompts, of which each process asks about its own share.
            texts: ``n`` responses to each.

        Returns:
            NaN is none. Shape ``(R, n)``, float64.
        """
        own = self.processes.rows(len(prompts))
        answers = self.gathered(name, [prompts[row] for row in own], [texts[row] for row in own])
        self.pool.note_costs(name, answers)
        scores = torch.full((len(prompts), len(texts[0])), torch.nan, dtype=torch.float64)
        for rank, found in enumerate(answers):
            rows = self.processes.rows(len(prompts), rank)
            scores[rows] = found.labels.reshape(len(rows), scores.shape[1])
        return scores

    def gathered(self, name: str, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]) -> list[Answer]:
        """What one reward model says in every process to that one's own question. Nothing is counted yet."""
        return self.processes.gather(self.pool.ask(name, prompts, texts, self.device))
