"""How good are the policy and each reward model, in each kind of question? Before any training.

Run:  python experiments/smollm2/card.py
      python experiments/smollm2/card.py --config experiments/third_world.yaml
Cost: 2 CPU cores, about 3 minutes, 2 GB.

From training questions, so that nothing is learned of those to be tested on. It writes ``WORLD.md`` into the folder
that is called as the configuration is, or where --results says.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jsonargparse
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "experiments" / "study")]

Scores = Mapping[str, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Asked:
    """Questions of one kind and what was said to them.

    Attributes:
        right: Whether each response is. ``B`` lists of ``n``.
        greedy: Whether the likeliest response is, or NaN where that was not asked. ``B`` numbers.
        scores: Of each reward model. ``B`` lists of ``n``.
    """

    right: list[list[bool]]
    greedy: list[bool]
    scores: Scores


def in_order(right: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Share of pairs of a right and a wrong response that are scored so, ties half; None where there is no pair.

    >>> in_order([True, False, False], [2.0, 1.0, 2.0]), in_order([True], [1.0])
    (0.75, None)
    """
    above = [good for good, is_right in zip(scores, right, strict=True) if is_right]
    below = [bad for bad, is_right in zip(scores, right, strict=True) if not is_right]
    if not above or not below:
        return None
    won = sum(1.0 if good > bad else 0.5 * (good == bad) for good in above for bad in below)
    return won / (len(above) * len(below))


def first_right(right: Sequence[bool], scores: Sequence[float]) -> float:
    """How often what is scored highest is right, those that share the highest score by lot.

    >>> first_right([True, False, False], [2.0, 1.0, 2.0])
    0.5
    """
    best = [is_right for is_right, score in zip(right, scores, strict=True) if score == max(scores)]
    return sum(best) / len(best)


def mean(values: Sequence[float | None]) -> float:
    """Of those that are there; NaN of none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def ask(path: Path, count: int, seed: int) -> dict[str, Asked]:
    """Sample responses to ``count`` training questions of each kind, and let all reward models score them.

    Args:
        path: The world's configuration.
        count: How many questions.
        seed: Of the samples.
    """
    from laser_pl.commands.settings import DEFAULTS
    from laser_pl.data.prompts import Columns, encode, prompts_from
    from laser_pl.data.tables import Table
    from laser_pl.data.templates import Template
    from laser_pl.generation.sampling import Sampling
    from laser_pl.metrics.matchers import Matcher
    from laser_pl.models.language_model import Weights
    from laser_pl.policy.policy import Policy
    from laser_pl.rewards import Pool, RewardModel

    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--arms", type=dict[str, RewardModel])
    parser.add_argument("--template", type=Template)
    parser.add_argument("--matcher", type=Matcher, default=DEFAULTS["model.matcher"])
    arms = config["selection"]["reward_models"]
    own = {"matcher": config["model"]["matcher"]} if "matcher" in config["model"] else {}
    parts: Any = parser.instantiate(parser.parse_object({"arms": arms, "template": config["data"]["template"], **own}))
    policy = Policy(Weights(**config["model"]["weights"]))
    policy.configure_model()
    policy.publish()
    table = Table(config["data"]["train"])
    every = prompts_from(table, Columns(**config["data"].get("columns", {})), parts.template, policy.tokenizer)
    pool, found = Pool(parts.arms), {}
    for kind in sorted({prompt.category for prompt in every}):
        prompts = list(islice((prompt for prompt in every if prompt.category == kind), count))
        batch = encode(prompts, policy.tokenizer, 1024, parts.template.special_tokens)
        said = {}
        for temperature in (config["data"]["rollouts"]["temperature"], 0.0):
            options = {**config["data"]["rollouts"], "temperature": temperature}
            sampling = Sampling(**options if temperature else {**options, "n": 1})
            said[temperature > 0] = policy.roll_out(batch, sampling, seed)[0].texts
        right = {
            sampled: [
                [parts.matcher.matches(text, str(prompt.answer)) for text in row]
                for prompt, row in zip(prompts, texts, strict=True)
            ]
            for sampled, texts in said.items()
        }
        device = torch.device("cpu")
        scores = {arm: pool.score(arm, prompts, said[True], device).tolist() for arm in arms}
        found[kind] = Asked(right[True], [row[0] for row in right[False]], scores)
    return found


def table(found: Mapping[str, Asked]) -> list[str]:
    """The card as Markdown."""
    cells: dict[str, list[float]] = {
        "policy, likeliest answer": [mean(asked.greedy) for asked in found.values()],
        "policy, sampled": [mean([mean(row) for row in asked.right]) for asked in found.values()],
        "questions with right and wrong samples": [
            mean([any(row) and not all(row) for row in asked.right]) for asked in found.values()
        ],
    }
    for title, judge in (("right above wrong", in_order), ("its first of the samples is right", first_right)):
        for arm in next(iter(found.values())).scores:
            cells[f"`{arm}`, {title}"] = [
                mean([judge(*pair) for pair in zip(asked.right, asked.scores[arm], strict=True)])
                for asked in found.values()
            ]
    lines = [f"| share | {' | '.join(found)} | mean |", "|---" * (len(found) + 2) + "|"]
    for name, values in cells.items():
        lines.append(f"| {name} | {' | '.join(f'{v:.3f}' for v in [*values, sum(values) / len(values)])} |")
    return lines


def page(found: Mapping[str, Asked], path: Path, command: str) -> str:
    """``WORLD.md``.

    Args:
        found: What was asked.
        path: The world's configuration.
        command: What wrote it.
    """
    count = len(next(iter(found.values())).greedy)
    return "\n".join(
        [
            f"# The world of {path.name}",
            "",
            f"The policy before training, and the reward models of `experiments/{path.name}`, on {count}",
            f"training questions of each kind (standard error of a share up to {0.5 / count**0.5:.3f}). Written by",
            f"`{command}`.",
            "",
            *table(found),
            "",
        ]
    )


if __name__ == "__main__":
    os.chdir(ROOT)  # the configuration names its files from here
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--config", type=Path, default=ROOT / "experiments" / "smollm2.yaml")
    options.add_argument("--questions", type=int, default=100, help="of each kind")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--results", type=Path)
    given = options.parse_args()
    command = shlex.join(["python", "experiments/smollm2/card.py", *sys.argv[1:]])
    text = page(ask(given.config, given.questions, given.seed), given.config, command)
    (given.results or given.config.with_suffix("") / "WORLD.md").write_text(text, encoding="utf-8")
    print(text)
