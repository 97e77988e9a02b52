"""Build the second world from a seed: tokenizer, prompts, policy, six likelihood reward models, and its card.

Run:    python experiments/second_world/build.py            (writes beside this file)
        python experiments/second_world/build.py --check    (builds again elsewhere and compares)
Cost:   one thread, about 7 minutes, 1 GB.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The quickstart's scripts, of which most serve here too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "quickstart"))
from command import build_or_check
from likelihoods import mean_likelihoods
from puzzles import PUZZLES, SPLIT_SIZES
from second_text import world_markdown
from speakers import JUDGES, train_judge, train_policy, train_reader
from transformers import PreTrainedTokenizerFast
from world import Trained, World

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Effort:
    """How long to train. The defaults make the shipped world; tests shorten them.

    Attributes:
        policy_steps: Optimisation steps of the policy.
        reader_steps: Optimisation steps of what the reward models grow from.
        judge_steps: Optimisation steps of each reward model after that.
        card_prompts: How many test prompts the card is measured on; the first ones are taken.
    """

    policy_steps: int = 2400
    reader_steps: int = 1800
    judge_steps: int = 400
    card_prompts: int = 760


def build_world(out: Path, seed: int, effort: Effort, *, verbose: bool = True) -> dict[str, Any]:
    """Build everything and write it; see ``World.build``."""

    def train(tokenizer: PreTrainedTokenizerFast, shipped: set[str], seed: int) -> Trained:
        policy = train_policy(tokenizer, shipped, seed, effort.policy_steps, verbose=verbose)
        reader = train_reader(tokenizer, shipped, seed, effort.reader_steps, verbose=verbose)
        return policy, {
            name: train_judge(name, reader, tokenizer, shipped, seed, effort.judge_steps, verbose=verbose)
            for name in JUDGES
        }

    return World(PUZZLES, SPLIT_SIZES, train, world_markdown, mean_likelihoods).build(out, seed, effort.card_prompts)


if __name__ == "__main__":
    sys.exit(build_or_check(lambda out, seed: build_world(out, seed, Effort()), HERE, "the second world"))
