"""The prompts of a split that are no longer than the policy can read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laser_pl.batches import Prompt
from laser_pl.data.prompts import Overlong, fit_to_length
from laser_pl.errors import ConfigurationError

log = logging.getLogger(__name__)

_DONE = {"drop": "dropped", "cut": "cut from the left", "middle": "cut in the middle"}


@dataclass(frozen=True)
class Fitting:
    """What is left of a split.

    Attributes:
        prompts: Those that fit, or were cut.
        counts: How many there were, and how many of them were too long.
    """

    prompts: list[Prompt]
    counts: dict[str, int]


def fitting(
    name: str, prompts: Sequence[Prompt], tokenizer: Any, limit: int, reason: str, overlong: Overlong, special: bool
) -> Fitting:
    """Drop or cut prompts that are too long, and log how many.

    Args:
        name: Of the split.
        prompts: All of it.
        tokenizer: The policy's.
        limit: Tokens of the longest prompt.
        reason: What says so.
        overlong: What becomes of longer ones.
        special: Whether the tokenizer adds its special tokens.

    Raises:
        ConfigurationError: If none is left of prompts that are needed.
    """
    kept, longer = fit_to_length(prompts, tokenizer, limit, overlong, special)
    if longer:
        log.warning(
            "%s: %d of %d prompts exceed %d tokens and are %s.", name, longer, len(prompts), limit, _DONE[overlong]
        )
    if not kept and (prompts or name == "train"):
        raise ConfigurationError(
            f"No {name} prompt is left of {len(prompts)}, with {longer} longer than {reason}. Give more prompts, or"
            " raise the limit."
        )
    return Fitting(kept, {"prompts": len(prompts), "too_long": longer})


def warn_of_earlier_end(evaluated: int, trained: int) -> None:
    """Log that graded responses are cut after fewer tokens than those that are trained on, where they are."""
    if evaluated < trained:
        log.warning(
            "Validation and test cut responses after model.evaluation.max_new_tokens = %d tokens, training"
            " after data.rollouts.max_new_tokens = %d: an answer that comes later counts as wrong. Set both"
            " alike.",
            evaluated,
            trained,
        )
