"""What is forecast: the parts of a run as they are configured, none of them loaded."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer

from laser_pl.batches import Prompt
from laser_pl.data.datamodule import PreferenceData
from laser_pl.data.prompts import prompt_ids
from laser_pl.policy.policy import Policy
from laser_pl.selection.selector import Selector


@dataclass(frozen=True)
class Setup:
    """A run that has not begun.

    Attributes:
        policy: The policy.
        data: Its prompts; set up unless they are out of reach.
        trainer: How long and on what it trains.
        selector: Chooses among the reward models.
        keep_iterations: Iterations whose rollouts stay.
    """

    policy: Policy
    data: PreferenceData
    trainer: Trainer
    selector: Selector
    keep_iterations: int | None = None

    @property
    def processes(self) -> int:
        """How many train together."""
        return int(self.trainer.world_size)

    @property
    def device(self) -> torch.device:
        """Where this process's models would lie."""
        return self.trainer.strategy.root_device

    @property
    def autocast(self) -> torch.dtype | None:
        """The type that a mixed precision computes in."""
        types = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
        return types.get(str(self.trainer.precision))

    @property
    def decisions(self) -> int:
        """Decisions of a step at most."""
        size = self.data.batch_size
        categories = {prompt.category for prompt in self.data.prompts["train"]}
        several = 1 if self.data.one_category_per_batch else min(len(categories), size)
        most = {"batch": 1, "category": several, "prompt": size, "rank": min(self.processes, size)}
        return most[self.selector.granularity]

    def longest(self, split: str, count: int) -> list[Prompt]:
        """The longest prompts of a split, by their characters."""
        return heapq.nlargest(count, self.data.prompts[split], key=lambda prompt: len(prompt.text))

    def heads(self, split: str, count: int) -> list[int]:
        """Tokens of the longest prompts of a split under the policy's tokenizer, the longest first."""
        special, limit = self.data.template.special_tokens, self.data.prompt_limit()[0]
        lengths = [len(prompt_ids(prompt.text, self.policy.tokenizer, special))
                   for prompt in self.longest(split, 4 * count)]  # fmt: skip
        return sorted((min(length, limit) for length in lengths), reverse=True)[:count]
