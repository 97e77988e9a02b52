"""Tokens that end a response, sampled or written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def end_ids(generation_config: Any, tokenizer: Any) -> list[int]:
    """Every id that ends a response: the tokenizer's EOS and those of the generation config (chat models have several).

    Args:
        generation_config: What ships with the weights.
        tokenizer: The policy's.

    Returns:
        The tokenizer's first, if it has one; none where nobody names any.
    """
    configured = generation_config.eos_token_id
    ids = [tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])]
    return [id_ for id_ in dict.fromkeys(ids) if id_ is not None]


def ends_of_turn(ends: Sequence[int], after: str, tokenizer: Any) -> list[int]:
    """The same, first the one that a written response gets: what the policy's template sets behind one, or the first.

    Args:
        ends: Ids that end a response, at least one.
        after: What the template sets behind a response, such as ``<|im_end|>`` and a line break.
        tokenizer: The policy's.
    """
    behind = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    return list(dict.fromkeys([*[id_ for id_ in behind if id_ in ends][:1], *ends]))


def ended(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The ids up to the first end; where there is none, the first of ``ends`` behind them.

    >>> ended([7, 8], ends=[2, 1]), ended([7, 1, 8, 2], ends=[2, 1])
    ([7, 8, 2], [7, 1])
    """
    place = next((place for place, id_ in enumerate(ids) if id_ in ends), None)
    return [*ids, ends[0]] if place is None else list(ids[: place + 1])


def lengths_to(is_end: Tensor) -> Tensor:
    """How many tokens stand up to the first end, which counts, or in all. Shapes ``(..., T)``, bool, to ``(...)``.

    >>> import torch
    >>> lengths_to(torch.tensor([[False, True, True], [False, False, False]])).tolist()
    [2, 3]
    """
    return (is_end.cumsum(-1) - is_end.long() == 0).sum(-1)
