"""Which prompts are worth asking people about, with which responses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from laser_pl.batches import Prompt
from laser_pl.runtime.seeds import derive_seed

Line = dict[str, Any]
Sample = Callable[[list[Prompt]], Sequence[Sequence[str]]]
"""From some prompts to the texts that the policy answers to each."""

SHOWN = 4
"""Unlike responses to a prompt that are shown: what people compare at a glance."""
ROUNDS = 4
"""How often prompts are tried anew in place of those to which all responses are alike, which ask nothing."""


def questions(prompts: Sequence[Prompt], per_category: int, seed: int, sample: Sample) -> list[Line]:
    """Prompts of each category, at random among those to which the policy gives unlike responses.

    Args:
        prompts: Of all categories.
        per_category: How many of each; fewer where there are fewer.
        seed: Root of the choice.
        sample: The policy.

    Returns:
        Lines of a labels file that nobody has filled in yet, by category.
    """
    waiting: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda prompt: derive_seed(seed, "label", prompt.id)):
        waiting[prompt.category].append(prompt)
    found: dict[str, list[Line]] = {category: [] for category in sorted(waiting)}
    for _ in range(ROUNDS):
        tried = [
            waiting[category].pop(0)
            for category, lines in found.items()
            for _ in range(min(per_category - len(lines), len(waiting[category])))
        ]
        if not tried:
            break
        for prompt, texts in zip(tried, sample(tried), strict=True):
            unlike = list(dict.fromkeys(text for text in texts if text.strip()))[:SHOWN]
            if len(unlike) > 1:
                found[prompt.category].append(question(prompt, unlike))
    return [line for lines in found.values() for line in lines]


def question(prompt: Prompt, responses: Sequence[str]) -> Line:
    """A line of a labels file: what is asked, and two places for what people say."""
    asked = {"prompt": prompt.prompt, "category": prompt.category, "responses": list(responses)}
    return {**asked, "better": None, "answer": None}
