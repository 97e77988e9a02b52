"""A world and how it is built: prompts from a seed, then whoever is trained on others like them, then the card."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from card import Scorer, card_of, measure, score_texts, write_card
from character_tokenizer import make_tokenizer
from tasks import Tasks, draw_splits, write_prompts
from transformers import LlamaForCausalLM, LlamaPreTrainedModel, PreTrainedTokenizerFast

Trained = tuple[LlamaForCausalLM, Mapping[str, LlamaPreTrainedModel]]
"""A policy, and reward models of one size by their names."""


@dataclass(frozen=True)
class World:
    """What makes one world another.

    Attributes:
        tasks: What is asked.
        sizes: Split to the number of its prompts in each category.
        train: From a tokenizer, the prompts that nobody may see, and the seed to who is in the world.
        text: From the card to its description for people.
        score: How the reward models score.
    """

    tasks: Tasks
    sizes: dict[str, dict[str, int]]
    train: Callable[[PreTrainedTokenizerFast, set[str], int], Trained]
    text: Callable[[dict[str, Any]], str]
    score: Scorer = score_texts

    def build(self, out: Path, seed: int, card_prompts: int) -> dict[str, Any]:
        """Build everything and write it.

        Args:
            out: Folder to write into; what is there is overwritten.
            seed: Fixes everything, bit for bit on one machine with one thread.
            card_prompts: How many test prompts the card is measured on; the first ones are taken.

        Returns:
            The card, as written to ``world_card.json``.
        """
        started = time.perf_counter()
        tokenizer = make_tokenizer(self.tasks.alphabet)
        splits = draw_splits(seed, self.sizes, self.tasks)
        write_prompts(splits, out / "prompts")
        policy, judges = self.train(tokenizer, {q.prompt for questions in splits.values() for q in questions}, seed)
        for place, model in (("policy", policy), *((f"reward_models/{name}", judge) for name, judge in judges.items())):
            model.save_pretrained(out / place)
            tokenizer.save_pretrained(out / place)
        measured = measure(policy, judges, tokenizer, splits["test"][:card_prompts], seed, self.tasks, self.score)
        card = card_of(seed, policy, next(iter(judges.values())), splits, measured, time.perf_counter() - started)
        write_card(out, card, self.text(card))
        return card
