"""Which reward model would each signal name, before anything is trained? Samples of the start policies, no fit.

Run:  python experiments/study/signals.py
Cost: about 80 s on one CPU core.

All arms of a pool score responses to a world's training prompts. From some prompts of one category each signal names
the arm of its largest mean; what counts is how often the answer that this arm puts first is right, relative to the best
arm of the pool in that category. It writes its section of ``RESULTS.md``, or where --results says.
``--worlds third`` looks where ``third_world/build.py`` has run.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import torch
import yaml
from candidates import Sampled, of_the_first, others, same_texts, signals
from torch import Tensor
from worlds import POOLS, ROOT, WORLDS, World

from laser_pl.report.summary import checked_out

POOL_NAMES = {
    "quickstart": ["base", "inverted", "random_arm", "yes_man", "noise_0.3", "noise_1.0", "k8"],
    "second": ["base", "inverted", "random_arm", "yes_man", "noise_0.3", "noise_1.0"],
    "third": ["base", "yes_man"],  # each costs some minutes
}
TITLES = {"quickstart": "The quickstart's world", "second": "The second world", "third": "The third world"}
NOTES = {
    "quickstart": "cooling was chosen in this world, cooling by ranks in this and the second.",
    "second": "cooling by ranks was chosen with this table in view, and with more variants of its rows, so it is no"
    " independent check. In rounding the policy is wrong by conviction, and a signal that follows its likelihoods is"
    " misled.",
    "third": "nothing was chosen with this table in view. In order the policy is wrong by conviction.",
}
PROMPTS = {"quickstart": 640, "second": 1200, "third": 630}
"""How many are sampled to."""
BUILT = ["quickstart", "second"]
"""Worlds whose models are in the repository."""
COUNTS = [4, 16, 64, 128]
DRAWS = 200
IN_POOLS = [
    *("score gap", "NLL of the first", "majority of the others"),
    *("cooling", "cooling per token", "cooling by ranks"),
]

Measured = TypeVar("Measured")
Found = dict[str, dict[str, dict[int, float]]]
"""Quality by signal, category and number of prompts."""


def quality(named: Tensor, right: Tensor) -> float:
    """Mean over draws of the named arm's accuracy over the best arm's. Shapes ``(D,)`` and ``(K,)``."""
    return float((right[named] / right.max()).mean())


def measure(scores: Tensor, right: Tensor, sampled: Sampled, categories: list[str]) -> Found:
    """The quality of each signal.

    Args:
        scores: Of the pool. Shape ``(K, B, n)``.
        right: Whether each response is. Shape ``(B, n)``.
        sampled: What was scored.
        categories: Of the prompts.
    """
    generator = torch.Generator().manual_seed(0)
    said = signals(scores, sampled) | others(scores, sampled)
    hits = of_the_first(scores, right.double())  # (K, B)
    found: Found = {name: {category: {} for category in sorted(set(categories))} for name in said}
    for category in sorted(set(categories)):
        rows = torch.tensor([row for row, name in enumerate(categories) if name == category])
        for count in COUNTS:
            draws = torch.stack([rows[torch.randperm(len(rows), generator=generator)[:count]] for _ in range(DRAWS)])
            for name, value in said.items():
                named = value[:, draws].mean(-1).argmax(0)  # (D,)
                found[name][category][count] = quality(named, hits[:, rows].mean(-1))
    return found


def average(found: Found, name: str, count: int) -> float:
    """The mean over categories."""
    return sum(by_count[count] for by_count in found[name].values()) / len(found[name])


def by_pool(results: dict[str, Found], names: list[str]) -> list[str]:
    """A row for each pool and number of prompts, a column for each signal."""
    lines = [f"| pool | prompts | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for pool, found in results.items():
        for count in COUNTS:
            cells = [f"{average(found, name, count):.3f}" for name in names]
            lines.append(f"| {pool} | {count} | {' | '.join(cells)} |")
    return lines


def by_signal(pools: dict[str, Found], count: int) -> list[str]:
    """A row for each signal: without adversaries, in the mean of the pools, and in each category.

    Args:
        pools: Of one world.
        count: Of prompts, in the columns of pools and categories.
    """
    base = pools["base"]
    categories = list(next(iter(base.values())))
    head = ["signal", *(f"{prompts} prompts" for prompts in COUNTS[1:]), f"{len(pools)} pools, {count}"]
    head += [f"{category}, {count}" for category in categories]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in base:
        cells = [average(base, name, prompts) for prompts in COUNTS[1:]]
        cells.append(sum(average(found, name, count) for found in pools.values()) / len(pools))
        cells += [base[name][category][count] for category in categories]
        lines.append(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    return lines


def samples(world: World, count: int, seed: int) -> tuple[list[Any], list[list[str]], Sampled]:
    """Prompts and what the world's start policy says to them.

    Args:
        world: Which.
        count: Of prompts.
        seed: Of sampling.
    """
    from laser_pl.batches import Prompt, PromptBatch
    from laser_pl.generation.sampling import Sampling
    from laser_pl.models.language_model import Weights
    from laser_pl.policy.policy import Policy

    config = yaml.safe_load((ROOT / world.config).read_text(encoding="utf-8"))
    policy = Policy(Weights(**config["model"]["weights"]))
    policy.configure_model()
    policy.publish()
    rows = (ROOT / config["data"]["train"]).read_text(encoding="utf-8").splitlines()[:count]
    prompts = [
        Prompt(str(number), row["prompt"], row["prompt"], row["answer"], row["category"])
        for number, row in enumerate(map(json.loads, rows))
    ]
    tokens = policy.tokenizer([prompt.text for prompt in prompts], return_tensors="pt", padding=True)
    batch = PromptBatch(tuple(prompts), tokens["input_ids"], tokens["attention_mask"])
    responses, _, logprobs = policy.roll_out(batch, Sampling(**config["data"]["rollouts"]), seed)
    texts = [list(row) for row in responses.texts]
    return prompts, texts, Sampled(logprobs.double(), responses.mask.sum(-1).double(), same_texts(texts))


def are_right(prompts: list[Any], texts: list[list[str]]) -> Tensor:
    """Which responses are, as a fit decides it. Shape ``(B, n)``, bool."""
    from laser_pl.metrics.matchers import Exact

    grader = Exact()
    return torch.tensor([[grader.is_right(t, p) for t in row] for p, row in zip(prompts, texts, strict=True)])


def scores_of(world: World, pool: str, prompts: list[Any], texts: list[list[str]]) -> Tensor:
    """What the arms of a pool say to a world's responses. Shape ``(K, B, n)``, float64."""
    from laser_pl.rewards import Pool, RewardModel

    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--arms", type=dict[str, RewardModel])
    arms = POOLS[pool](world)
    asked = Pool(parser.instantiate(parser.parse_object({"arms": arms})).arms)
    return torch.stack([asked.score(arm, prompts, texts, torch.device("cpu")).double() for arm in arms])


def measure_pools(name: str, seed: int) -> dict[str, Found]:
    """The quality of each signal in each pool of a world.

    Args:
        name: The world's.
        seed: Of sampling.
    """
    prompts, texts, sampled = samples(WORLDS[name], PROMPTS[name], seed)
    right = are_right(prompts, texts)
    results = {}
    for kind in POOL_NAMES[name]:
        scores = scores_of(WORLDS[name], kind, prompts, texts)
        results[kind] = measure(scores, right, sampled, [prompt.category for prompt in prompts])
    return results


def page(results: dict[str, dict[str, Found]], seed: int) -> list[str]:
    """The section's lines.

    Args:
        results: By world and pool.
        seed: Of sampling.
    """
    lines = [
        "## What each signal says before training",
        "",
        "From so many prompts of one category, each signal names the arm of its largest mean. Figures: how often the"
        " answer that this arm puts first is right, over the same for the best arm of the pool, mean over categories"
        f" and {DRAWS} draws of prompts; 1 is always the best arm. No training, start policies, seed {seed}.",
    ]
    for world, pools in results.items():
        lines += [
            "",
            f"### {TITLES[world]}, before training",
            "",
            *by_pool(pools, IN_POOLS),
            "",
            f"What else was tried, without adverse arms but in the column of the pools; {NOTES[world]}",
            "",
            *by_signal(pools, 64),
        ]
    return lines


def write(
    name: str,
    description: str | None,
    measured: Callable[[str, int], Measured],
    page: Callable[[dict[str, Measured], int], list[str]],
    args: Sequence[str] | None = None,
) -> None:
    """The command line of a script that samples from start policies, which writes its section and prints it.

    Args:
        name: Of the script, and of its section.
        description: The script's docstring.
        measured: From a world's name and the seed of sampling to what is found there.
        page: From that by world, and the seed, to the section's lines.
        args: What was typed; None takes the process's own.
    """
    from run import HERE, stamp, write_part

    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--worlds", nargs="+", choices=list(PROMPTS), default=BUILT)
    given = parser.parse_args(args)
    os.chdir(ROOT)  # the configurations name their files from here
    command = f"python experiments/study/{name}.py --seed {given.seed}"
    if given.worlds != BUILT:
        command += f" --worlds {' '.join(given.worlds)}"
    found = {world: measured(world, given.seed) for world in given.worlds}
    lines = [*page(found, given.seed), "", stamp(command, [checked_out(ROOT)])]
    write_part(given.results, name, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    write("signals", __doc__, measure_pools, page)
