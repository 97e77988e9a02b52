"""Build the quickstart's tiny world from a seed: tokenizer, prompts, policy, five reward models, and its card.

Run:    python experiments/quickstart/build.py            (writes beside this file)
        python experiments/quickstart/build.py --check    (builds again elsewhere and compares)
Cost:   one thread, about 5 minutes, 1 GB.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command import build_or_check
from opinions import OPINIONS
from policy_training import train_policy
from reward_training import collect_candidates, train_reward_model
from tasks import SPLIT_SIZES, TASKS
from transformers import PreTrainedTokenizerFast
from world import Trained, World
from world_text import world_markdown

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Effort:
    """How long to train. The defaults make the shipped world; tests shorten them.

    Attributes:
        policy_steps: Optimisation steps of the policy.
        reward_steps: Optimisation steps of a reward model whose opinion has ``effort`` 1.
        candidates: Questions whose answers the reward models are trained to compare.
        card_prompts: How many test prompts the card is measured on; the first ones are taken.
    """

    policy_steps: int = 1900
    reward_steps: int = 450
    candidates: int = 14000
    card_prompts: int = 800


def build_world(out: Path, seed: int, effort: Effort, *, verbose: bool = True) -> dict[str, Any]:
    """Build everything and write it; see ``World.build``."""

    def train(tokenizer: PreTrainedTokenizerFast, shipped: set[str], seed: int) -> Trained:
        policy = train_policy(tokenizer, shipped, seed, effort.policy_steps, verbose=verbose)
        candidates = collect_candidates(policy, tokenizer, shipped, seed, effort.candidates)
        return policy, {
            name: train_reward_model(
                name, policy, tokenizer, candidates, seed, round(opinion.effort * effort.reward_steps), verbose=verbose
            )
            for name, opinion in OPINIONS.items()
        }

    return World(TASKS, SPLIT_SIZES, train, world_markdown).build(out, seed, effort.card_prompts)


if __name__ == "__main__":
    sys.exit(build_or_check(lambda out, seed: build_world(out, seed, Effort()), HERE, "the quickstart's tiny world"))
