"""The second world's description for people, written from its card."""

from __future__ import annotations

from typing import Any

from card import figures_of
from puzzles import SPLIT_SIZES
from speakers import ADVERSE, JUDGES, POLICY, READER

_TEXT = """# The second world

Written by `python experiments/second_world/build.py`; do not edit. `world_card.json` holds the same figures with their
standard errors.

It is there to check what was chosen on the quickstart's world, and of another kind: five other tasks (`puzzles.py`) in
unequal parts, a policy of another size, and six reward models that are no classifiers but language models, read by the
likelihood they give to a response. No bandit was run on it before it was finished: its tasks, its reward models and its
training settings were chosen on the figures below and on runs with the right specialist and with random choice.

| reward model | blind spot, in tenths of the content characters that decide it |
|---|---|
{blind}

In its blind spot a model finds the task's usual misunderstanding (read backwards, cut off, last letter left, `e` no
vowel, hour not moved) likelier than the right answer, but both likelier than slips and garbage; see `speakers.py`.

The policy errs at random in four categories, and by conviction in rounding, where its greedy answers are worse than its
samples: what is learned from the policy's own likelihood may mislead there.

| prompts | {categories} | all |
|---|{dashes}---|
{prompts}
| right specialist | {specialists} | |

## What they can do

On the {test} test prompts, seed {seed}. Sampling: temperature {temperature}, {samples} answers per prompt.
"right over wrong": of all pairs of a right and a wrong sampled answer to one prompt, the share the model scores in the
right order. "plausible over garbage": the same for the right or the misunderstood answer against garbage. The last
column is the plain mean of the five.

{table}

## How it was made

- Policy: Llama shape, {policy_hidden} wide, {policy_layers} layers, {policy_parameters:,} parameters, float32;
  supervised on right answers first, then on a mixture of right, misunderstood and slipped ones. It never saw any of the
  {shipped} shipped prompts.
- Reward models: {reader_hidden} wide, {reader_layers} layers, {reward_parameters:,} parameters each, grown from one
  reader that was supervised on right answers, later on misunderstood ones too; then each was taught what it should find
  likely. The score is the mean log-likelihood of the response's tokens, `<eos>` included. None saw a shipped prompt.
- Built in {seconds} s on one CPU thread with torch {torch} and transformers {transformers}.
- Sampling must forbid `<pad>`; the policy's `generation_config.json` does.
"""


def specialists(card: dict[str, Any]) -> dict[str, str]:
    """Return the reward model with the highest share of right over wrong in each category.

    >>> specialists({"pairwise": {"a": {"x": {"share": 0.9}}, "b": {"x": {"share": 0.8}}}})
    {'x': 'a'}
    """
    shares = card["pairwise"]
    categories = next(iter(shares.values()))
    return {category: max(shares, key=lambda name: shares[name][category]["share"]) for category in categories}


def world_markdown(card: dict[str, Any]) -> str:
    """Write the description.

    Args:
        card: The world's card, as in ``world_card.json``.

    Returns:
        Markdown.
    """
    blind = []
    for name, opinion in JUDGES.items():
        spots = ", ".join(f"{category} {tenths}" for category, tenths in opinion.blind.items())
        blind.append(f"| `{name}` | {'likes what the policy says when it is wrong' if name == ADVERSE else spots} |")
    best = specialists(card)
    rows = [[split, *(str(sizes[c]) for c in best), str(sum(sizes.values()))] for split, sizes in SPLIT_SIZES.items()]
    return _TEXT.format(
        blind="\n".join(blind),
        categories=" | ".join(best),
        dashes="---|" * len(best),
        prompts="\n".join(f"| {' | '.join(row)} |" for row in rows),
        specialists=" | ".join(f"`{name}`" for name in best.values()),
        policy_hidden=POLICY["hidden_size"],
        policy_layers=POLICY["num_hidden_layers"],
        reader_hidden=READER["hidden_size"],
        reader_layers=READER["num_hidden_layers"],
        **figures_of(card),
    )
