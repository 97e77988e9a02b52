"""The world's description for people, written from its card."""

from __future__ import annotations

from typing import Any

from card import figures_of
from opinions import OPINIONS

_TEXT = """# The quickstart's tiny world

Written by `python experiments/quickstart/build.py`; do not edit. `world_card.json` holds the same figures with their
standard errors.

Four tasks on single characters (`tasks.py`), one small policy, and five reward models of which each is worth trusting
in some places only:

| reward model | blind spot, in tenths of the content characters that decide it |
|---|---|
{blind}

In its blind spot a model puts the task's usual misunderstanding (carry lost, descending, copied, smaller) above the
right answer, but both above slips and garbage; see `opinions.py`.

## What they can do

On the {test} test prompts, seed {seed}. Sampling: temperature {temperature}, {samples} answers per prompt.
"right over wrong": of all pairs of a right and a wrong sampled answer to one prompt, the share the model scores in the
right order. "plausible over garbage": the same for the right or the misunderstood answer against garbage. The last
column is the plain mean of the four.

{table}

## How it was made

- Policy: Llama shape, {policy_parameters:,} parameters, float32; supervised on right answers first, then on a mixture
  of right, misunderstood and slipped ones. It never saw any of the {shipped} shipped prompts.
- Reward models: {reward_parameters:,} parameters each, grown from the policy's trunk, Bradley-Terry loss over pairs of
  right, misunderstood, slipped, sampled and garbage answers, plus (but for `longer`) the likelihood of the answer they
  should like best. None saw a shipped prompt.
- Built in {seconds} s on one CPU thread with torch {torch} and transformers {transformers}.
- Texts are scored as prompt + answer + `<eos>`, padded on the right. Sampling must forbid `<pad>`; the policy's
  `generation_config.json` does.
"""


def world_markdown(card: dict[str, Any]) -> str:
    """Write the description.

    Args:
        card: The world's card, as in ``world_card.json``.

    Returns:
        Markdown.
    """
    blind = []
    for name, opinion in OPINIONS.items():
        spots = ", ".join(f"{category} {tenths}" for category, tenths in opinion.blind.items())
        blind.append(f"| `{name}` | {'likes long answers, looks at nothing else' if opinion.likes_length else spots} |")
    return _TEXT.format(
        blind="\n".join(blind),
        **figures_of(card),
    )
