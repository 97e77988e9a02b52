"""Build the second world from a seed: tokenizer, prompts, policy, six likelihood reward models, and its card.

Run:    python experiments/second_world/build.py            (writes beside this file)
        python experiments/second_world/build.py --check    (builds again elsewhere and compares)
Cost:   one thread, about 7 minutes, 1 GB.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

# The quickstart's scripts, of which most serve here too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "quickstart"))
from card import card_of, measure, write_card
from character_tokenizer import make_tokenizer
from command import build_or_check
from likelihoods import mean_likelihoods
from puzzles import PUZZLES, SPLIT_SIZES
from second_text import world_markdown
from speakers import JUDGES, train_judge, train_policy, train_reader
from tasks import draw_splits, write_prompts

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


def build_world(out: Path, seed: int, effort: Effort, *, verbose: bool = True) -> dict[str, object]:
    """Build everything and write it.

    Args:
        out: Folder to write into; what is there is overwritten.
        seed: Fixes everything, bit for bit on one machine with one thread.
        effort: How long to train.
        verbose: Whether to print progress.

    Returns:
        The card, as written to ``world_card.json``.
    """
    started = time.perf_counter()
    tokenizer = make_tokenizer(PUZZLES.alphabet)
    splits = draw_splits(seed, SPLIT_SIZES, PUZZLES)
    write_prompts(splits, out / "prompts")
    shipped = {q.prompt for questions in splits.values() for q in questions}

    policy = train_policy(tokenizer, shipped, seed, effort.policy_steps, verbose=verbose)
    reader = train_reader(tokenizer, shipped, seed, effort.reader_steps, verbose=verbose)
    judges = {
        name: train_judge(name, reader, tokenizer, shipped, seed, effort.judge_steps, verbose=verbose)
        for name in JUDGES
    }
    for model, folder in ((policy, "policy"), *((judge, f"reward_models/{name}") for name, judge in judges.items())):
        model.save_pretrained(out / folder)
        tokenizer.save_pretrained(out / folder)

    questions = splits["test"][: effort.card_prompts]
    measured = measure(policy, judges, tokenizer, questions, seed, PUZZLES, mean_likelihoods)
    card = card_of(seed, policy, reader, splits, measured, time.perf_counter() - started)
    write_card(out, card, world_markdown(card))
    return card


if __name__ == "__main__":
    sys.exit(build_or_check(lambda out, seed: build_world(out, seed, Effort()), HERE, "the second world"))
