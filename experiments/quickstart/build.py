"""Build the quickstart's tiny world from a seed: tokenizer, prompts, policy, five reward models, and its card.

Run:    python experiments/quickstart/build.py            (writes beside this file)
        python experiments/quickstart/build.py --check    (builds again elsewhere and compares)
Cost:   one thread, about 5 minutes, 1 GB.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from card import card_of, measure, write_card
from character_tokenizer import make_tokenizer
from command import build_or_check
from opinions import OPINIONS
from policy_training import train_policy
from reward_training import collect_candidates, train_reward_model
from tasks import draw_splits, write_prompts
from transformers import LlamaForSequenceClassification
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
    tokenizer = make_tokenizer()
    splits = draw_splits(seed)
    write_prompts(splits, out / "prompts")
    shipped = {q.prompt for questions in splits.values() for q in questions}

    policy = train_policy(tokenizer, shipped, seed, effort.policy_steps, verbose=verbose)
    policy.save_pretrained(out / "policy")
    tokenizer.save_pretrained(out / "policy")

    candidates = collect_candidates(policy, tokenizer, shipped, seed, effort.candidates)
    reward_models: dict[str, LlamaForSequenceClassification] = {}
    for name, opinion in OPINIONS.items():
        steps = round(opinion.effort * effort.reward_steps)
        reward_model = train_reward_model(name, policy, tokenizer, candidates, seed, steps, verbose=verbose)
        reward_model.save_pretrained(out / "reward_models" / name)
        tokenizer.save_pretrained(out / "reward_models" / name)
        reward_models[name] = reward_model

    measured = measure(policy, reward_models, tokenizer, splits["test"][: effort.card_prompts], seed)
    card = card_of(seed, policy, reward_models["general"], splits, measured, time.perf_counter() - started)
    write_card(out, card, world_markdown(card))
    return card


if __name__ == "__main__":
    sys.exit(build_or_check(lambda out, seed: build_world(out, seed, Effort()), HERE, "the quickstart's tiny world"))
