"""The world's card: what the policy and the reward models can do, measured on the test prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from character_tokenizer import EOS, pad_right
from mistakes import garbage
from policy_training import TEMPERATURE
from reward_training import score_ids
from sampling import answer_prompts
from tasks import TASKS, Question, Tasks
from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaPreTrainedModel,
    PreTrainedTokenizerFast,
)

SAMPLES_PER_PROMPT = 16
Scorer = Callable[[LlamaPreTrainedModel, PreTrainedTokenizerFast, list[str]], list[float]]
"""From a reward model, its tokenizer and texts (prompt and response, without the end token) to their scores."""


@torch.no_grad()
def score_texts(
    reward_model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> list[float]:
    """Score texts (prompt and response, without the end token, which is added here)."""
    scores: list[float] = []
    for start in range(0, len(texts), 2048):
        ids = pad_right(tokenizer, [text + EOS for text in texts[start : start + 2048]])
        scores += score_ids(reward_model, ids).tolist()
    return scores


def share(hits: list[float], weights: list[float]) -> dict[str, float]:
    """Return a share pooled over prompts with its standard error.

    The prompts are the clusters of a ratio estimator: with hits h_i out of w_i at prompt i and p = sum h / sum w, the
    error is sqrt(sum (h_i - p w_i)^2) / sum w. It holds the differences between prompts too, so that for the same
    prompts sampled again it is an upper bound.

    Args:
        hits: Per prompt, how many were right (a tie counts one half).
        weights: Per prompt, out of how many.

    Returns:
        ``share`` and ``standard_error``; NaN where there is nothing to count.

    >>> share([1.0, 0.0], [2.0, 0.0])
    {'share': 0.5, 'standard_error': 0.0}
    """
    total = sum(weights)
    if total == 0:
        return {"share": math.nan, "standard_error": math.nan}
    p = sum(hits) / total
    squares = sum((h - p * w) ** 2 for h, w in zip(hits, weights, strict=True))
    return {"share": round(p, 4), "standard_error": round(math.sqrt(squares) / total, 4)}


def ordered_pairs(good: list[float], bad: list[float]) -> tuple[float, float]:
    """Count the pairs (one of each list) in which the good one scores higher, and all pairs; a tie counts one half.

    >>> ordered_pairs([2.0, 0.0], [1.0, 0.0])
    (2.5, 4.0)
    """
    hits = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return float(hits), float(len(good) * len(bad))


def policy_shares(
    questions: list[Question], greedy: list[str], sampled: list[list[str]]
) -> dict[str, dict[str, float]]:
    """Return how often the policy's answers are right, and how often its samples are the misunderstanding.

    Args:
        questions: ``N`` questions.
        greedy: The most likely answer to each.
        sampled: ``SAMPLES_PER_PROMPT`` answers to each.

    Returns:
        ``share``s by name: ``greedy``, ``sampled`` and ``misunderstood``.
    """
    right = [float(answer == q.answer) for answer, q in zip(greedy, questions, strict=True)]
    sampled_right = [float(row.count(q.answer)) for row, q in zip(sampled, questions, strict=True)]
    misunderstood = [float(row.count(q.misunderstood)) for row, q in zip(sampled, questions, strict=True)]
    samples = [float(SAMPLES_PER_PROMPT)] * len(questions)
    return {
        "greedy": share(right, [1.0] * len(questions)),
        "sampled": share(sampled_right, samples),
        "misunderstood": share(misunderstood, samples),
    }


def reward_model_shares(
    reward_model: LlamaPreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    questions: list[Question],
    sampled: list[list[str]],
    junk: list[list[str]],
    score: Scorer = score_texts,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return how often a reward model puts the better of two answers to a prompt first.

    Args:
        reward_model: The reward model.
        tokenizer: Its tokenizer.
        questions: ``N`` questions.
        sampled: The policy's answers to each.
        junk: Garbage answers to each.
        score: How the reward model scores.

    Returns:
        Two ``share``s: a right sample above a wrong one; the right or the misunderstood answer above garbage.
    """
    rows = [[*s, q.answer, q.misunderstood, *j] for q, s, j in zip(questions, sampled, junk, strict=True)]
    texts = [q.prompt + response for q, row in zip(questions, rows, strict=True) for response in row]
    scores = iter(score(reward_model, tokenizer, texts))
    right_over_wrong, plausible_over_garbage = [], []
    for q, own, row in zip(questions, sampled, rows, strict=True):
        row_scores = [next(scores) for _ in row]
        own_scores, others = row_scores[: len(own)], row_scores[len(own) :]
        answer, misunderstood, *garbage_scores = others
        right = [score for response, score in zip(own, own_scores, strict=True) if response == q.answer]
        wrong = [score for response, score in zip(own, own_scores, strict=True) if response != q.answer]
        right_over_wrong.append(ordered_pairs(right, wrong))
        plausible_over_garbage.append(ordered_pairs([answer, misunderstood], garbage_scores))
    pairwise, plausible = (
        share([hits for hits, _ in pairs], [count for _, count in pairs])
        for pairs in (right_over_wrong, plausible_over_garbage)
    )
    return pairwise, plausible


def measure(
    policy: LlamaForCausalLM,
    reward_models: Mapping[str, LlamaPreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    questions: list[Question],
    seed: int,
    tasks: Tasks = TASKS,
    score: Scorer = score_texts,
) -> dict[str, Any]:
    """Measure the world.

    Args:
        policy: The trained policy.
        reward_models: The trained reward models by name.
        tokenizer: Their tokenizer.
        questions: The test questions.
        seed: Fixes the samples and the garbage.
        tasks: The world's tasks.
        score: How the reward models score.

    Returns:
        ``policy`` by category (see ``policy_shares``); ``pairwise`` and ``plausible_over_garbage`` by reward model and
        category (see ``reward_model_shares``).
    """
    generator, rng = torch.Generator().manual_seed(seed + 1), Random(f"card-{seed}")
    card: dict[str, Any] = {"policy": {}, "pairwise": {n: {} for n in reward_models}}
    card["plausible_over_garbage"] = {n: {} for n in reward_models}
    for category in tasks.kinds:
        asked = [q for q in questions if q.category == category]
        greedy = answer_prompts(policy, tokenizer, [q.prompt for q in asked], None, tasks)
        repeated = [q.prompt for q in asked for _ in range(SAMPLES_PER_PROMPT)]
        flat = answer_prompts(policy, tokenizer, repeated, generator, tasks)
        sampled = [flat[i : i + SAMPLES_PER_PROMPT] for i in range(0, len(flat), SAMPLES_PER_PROMPT)]
        card["policy"][category] = policy_shares(asked, greedy, sampled)
        junk = [[garbage(q, rng, tasks) for _ in range(8)] for q in asked]
        junk = [[g for g in made if g not in (q.answer, q.misunderstood)] for q, made in zip(asked, junk, strict=True)]
        for name, reward_model in reward_models.items():
            pairwise, plausible = reward_model_shares(reward_model, tokenizer, asked, sampled, junk, score)
            card["pairwise"][name][category] = pairwise
            card["plausible_over_garbage"][name][category] = plausible
    return card


def table(card: dict[str, Any]) -> str:
    """Lay the card's shares out as one Markdown table, a row per measurement and a column per category."""
    categories = list(card["policy"])
    rows = [f"policy, {kind}" for kind in ("greedy", "sampled", "misunderstood")]
    cells = [[card["policy"][c][kind]["share"] for c in categories] for kind in ("greedy", "sampled", "misunderstood")]
    for title, key in (("right over wrong", "pairwise"), ("plausible over garbage", "plausible_over_garbage")):
        for name, per_category in card[key].items():
            rows.append(f"`{name}`, {title}")
            cells.append([per_category[c]["share"] for c in categories])
    lines = [f"| share | {' | '.join(categories)} | mean |", "|---|" + "---|" * (len(categories) + 1)]
    for row, values in zip(rows, cells, strict=True):
        figures = " | ".join(f"{v:.3f}" for v in [*values, sum(values) / len(values)])
        lines.append(f"| {row} | {figures} |")
    return "\n".join(lines)


def card_of(
    seed: int,
    policy: LlamaPreTrainedModel,
    reward_model: LlamaPreTrainedModel,
    splits: Mapping[str, list[Question]],
    measured: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Return a world's card.

    Args:
        seed: What it was built from.
        policy: Its policy.
        reward_model: One of its reward models, all of one size.
        splits: Its prompts.
        measured: What ``measure`` found.
        seconds: How long it took to build.
    """
    return {
        "seed": seed,
        "parameters": {
            "policy": sum(p.numel() for p in policy.parameters()),
            "reward_model": sum(p.numel() for p in reward_model.parameters()),
        },
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "prompts": {split: len(questions) for split, questions in splits.items()},
        **measured,
        "build_seconds": round(seconds),
    }


def figures_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every world's description quotes of its card, by the names it has there."""
    return {
        "test": card["prompts"]["test"],
        "seed": card["seed"],
        "temperature": TEMPERATURE,
        "samples": SAMPLES_PER_PROMPT,
        "table": table(dict(card)),
        "policy_parameters": card["parameters"]["policy"],
        "reward_parameters": card["parameters"]["reward_model"],
        "shipped": sum(card["prompts"].values()),
        "seconds": card["build_seconds"],
        "torch": card["versions"]["torch"],
        "transformers": card["versions"]["transformers"],
    }


def write_card(out: Path, card: Mapping[str, Any], text: str) -> None:
    """Write ``world_card.json``, and its text for people as ``WORLD.md``."""
    (out / "world_card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (out / "WORLD.md").write_text(text, encoding="utf-8")
