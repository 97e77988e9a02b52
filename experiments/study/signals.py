"""Which reward model would each signal name, before anything is trained? Samples of the start policy, no fit.

Run:  python experiments/study/signals.py
Cost: about a minute on one CPU core.

All arms of a pool score responses to the quickstart's training prompts. From some prompts of one category each signal
names the arm of its largest mean; what counts is how often the answer that this arm puts first is right, relative to
the best arm of the pool in that category. It writes its section of ``RESULTS.md``, or where --results says.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import jsonargparse
import torch
from torch import Tensor
from worlds import POOLS, ROOT, WORLDS

from laser_pl.report.summary import checked_out

POOL_NAMES = ["base", "inverted", "random_arm", "yes_man", "noise_0.3", "noise_1.0", "k8"]
COUNTS = [4, 16, 64]
DRAWS = 200


def spreads(scores: Tensor) -> Tensor:
    """Each arm's deviation about its prompts' means. Shapes ``(K, B, n)`` to ``(K, 1)``."""
    return (scores - scores.mean(-1, keepdim=True)).square().mean((1, 2)).sqrt()[:, None]


def values(scores: Tensor, logprobs: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """What each signal says of every arm on every prompt.

    Args:
        scores: Shape ``(K, B, n)``.
        logprobs: Of the responses, in nats. Shape ``(B, n)``.
        lengths: Their tokens. Shape ``(B, n)``.

    Returns:
        By the signal's name. Shape ``(K, B)``.
    """
    from laser_pl.feedback.signals.cooling import covariance
    from laser_pl.feedback.signals.majority import agreement

    ordered = scores.sort(-1, descending=True).values
    per_token = logprobs / lengths  # (B, n)
    first = scores.argmax(-1, keepdim=True)  # (K, B, 1)
    likelihood = per_token.expand_as(scores).gather(-1, first).squeeze(-1) - per_token.mean(-1)
    return {
        "score gap": (ordered[..., 0] - ordered[..., -4:].mean(-1)) / spreads(scores),
        "NLL of the first": likelihood,
        "majority of the others": agreement(scores).nan_to_num(0.5),
        "cooling": torch.stack([covariance(own, logprobs) for own in scores]) / spreads(scores),
        "cooling per token": torch.stack([covariance(own, per_token) for own in scores]) / spreads(scores),
    }


def quality(named: Tensor, right: Tensor) -> float:
    """Mean over draws of the named arm's accuracy over the best arm's. Shapes ``(D,)`` and ``(K,)``."""
    return float((right[named] / right.max()).mean())


def measure(scores: Tensor, right: Tensor, logprobs: Tensor, lengths: Tensor, categories: list[str]) -> dict[str, Any]:
    """The quality of each signal by the number of prompts, mean over categories.

    Args:
        scores: Of the pool. Shape ``(K, B, n)``.
        right: Whether each response is. Shape ``(B, n)``.
        logprobs: See ``values``.
        lengths: See ``values``.
        categories: Of the prompts.
    """
    generator = torch.Generator().manual_seed(0)
    said = values(scores, logprobs, lengths)
    first = scores.argmax(-1, keepdim=True)  # (K, B, 1)
    hits = right.double().expand_as(scores).gather(-1, first).squeeze(-1)  # (K, B)
    found: dict[str, dict[int, list[float]]] = {name: {count: [] for count in COUNTS} for name in said}
    for category in sorted(set(categories)):
        rows = torch.tensor([row for row, name in enumerate(categories) if name == category])
        for count in COUNTS:
            draws = torch.stack([rows[torch.randperm(len(rows), generator=generator)[:count]] for _ in range(DRAWS)])
            for name, value in said.items():
                named = value[:, draws].mean(-1).argmax(0)  # (D,)
                found[name][count].append(quality(named, hits[:, rows].mean(-1)))
    return {name: {count: sum(v) / len(v) for count, v in by_count.items()} for name, by_count in found.items()}


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """A row for each pool and number of prompts, a column for each signal."""
    names = list(next(iter(results.values())))
    lines = [f"| pool | prompts | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for pool, found in results.items():
        for count in COUNTS:
            lines.append(f"| {pool} | {count} | {' | '.join(f'{found[name][count]:.3f}' for name in names)} |")
    return lines


def samples(seed: int) -> tuple[list[Any], list[list[str]], Tensor, Tensor]:
    """Prompts, responses, and their log-probabilities and lengths ``(B, n)``, of the quickstart's policy."""
    from laser_pl.batches import Prompt, PromptBatch
    from laser_pl.generation.sampler import Sampling
    from laser_pl.language_model import Weights
    from laser_pl.policy import Policy

    policy = Policy(Weights("experiments/quickstart/policy"))
    policy.configure_model()
    rows = (ROOT / "experiments/quickstart/prompts/train.jsonl").read_text(encoding="utf-8").splitlines()[:640]
    prompts = [
        Prompt(str(number), row["prompt"], row["prompt"], row["answer"], row["category"])
        for number, row in enumerate(map(json.loads, rows))
    ]
    tokens = policy.tokenizer([prompt.text for prompt in prompts], return_tensors="pt", padding=True)
    batch = PromptBatch(tuple(prompts), tokens["input_ids"], tokens["attention_mask"])
    responses, _, logprobs = policy.roll_out(batch, Sampling(n=10, temperature=0.8, max_new_tokens=8), seed)
    return prompts, [list(row) for row in responses.texts], logprobs.double(), responses.mask.sum(-1).double()


def main(seed: int) -> list[str]:
    """The section's lines."""
    from laser_pl.rewards import Pool, RewardModel

    prompts, texts, logprobs, lengths = samples(seed)
    right = torch.tensor([[t == p.answer for t in row] for p, row in zip(prompts, texts, strict=True)])
    categories = [prompt.category for prompt in prompts]
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--arms", type=dict[str, RewardModel])
    results = {}
    for name in POOL_NAMES:
        arms = POOLS[name](WORLDS["quickstart"])
        pool = Pool(parser.instantiate(parser.parse_object({"arms": arms})).arms)
        scores = torch.stack([pool.score(arm, prompts, texts, torch.device("cpu")) for arm in arms])
        results[name] = measure(scores, right, logprobs, lengths, categories)
    return [
        "## What each signal says before training",
        "",
        "From so many prompts of one category, each signal names the arm of its largest mean. Figures: how often the"
        " answer that this arm puts first is right, over the same for the best arm of the pool, mean over four"
        f" categories and {DRAWS} draws of prompts; 1 is always the best arm. No training, start policy, seed {seed}.",
        "",
        *table(results),
    ]


if __name__ == "__main__":
    from run import HERE, stamp, write_part

    os.chdir(ROOT)  # the configurations name their files from here

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    given = options.parse_args()
    text = [
        *main(given.seed),
        "",
        stamp(f"python experiments/study/signals.py --seed {given.seed}", [checked_out(ROOT)]),
    ]
    write_part(given.results, "signals", text)
    print("\n".join(text))
