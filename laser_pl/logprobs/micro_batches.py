"""Which responses go through the model together."""

from __future__ import annotations

from torch import Tensor

MicroBatch = list[int]
"""Rows of responses of one forward."""


def micro_batches(
    prompt_lengths: Tensor, prompt: Tensor, lengths: Tensor, budget: int, shared: bool
) -> list[list[MicroBatch]]:
    """Groups of whole prompts whose forwards keep to a budget of tokens.

    Prompts of like length go together, so that what has to be padded is padded little. A prompt whose responses do not
    fit makes a group of its own, of several parts.

    Args:
        prompt_lengths: Shape ``(B,)``.
        prompt: The prompt of each response. Shape ``(R,)``, int64.
        lengths: Length of each response. Shape ``(R,)``.
        budget: Tokens in one forward; a single response may exceed it.
        shared: Whether a forward reads a prompt once, or once for each response.

    Returns:
        Groups of parts of rows; each row is in one of them.

    >>> import torch
    >>> two, four = torch.tensor([2, 2]), torch.tensor([0, 0, 1, 1])
    >>> micro_batches(two, four, torch.full((4,), 3), budget=8, shared=True)
    [[[0, 1]], [[2, 3]]]
    >>> micro_batches(two, four, torch.full((4,), 3), budget=16, shared=True)
    [[[0, 1, 2, 3]]]
    >>> micro_batches(two, four, torch.full((4,), 3), budget=5, shared=True)
    [[[0], [1]], [[2], [3]]]
    """
    heads, tails = prompt_lengths.tolist(), lengths.tolist()
    rows: dict[int, list[int]] = {}
    for row, of in enumerate(prompt.tolist()):
        rows.setdefault(of, []).append(row)

    def cost(of: int, part: list[int]) -> int:
        return int(sum(tails[row] for row in part) + heads[of] * (1 if shared else len(part)))

    groups: list[list[MicroBatch]] = []
    filled = budget + 1  # tokens in the group that is still open
    for of in sorted(rows, key=lambda of: (heads[of], max(tails[row] for row in rows[of]), of)):
        tokens = cost(of, rows[of])
        if tokens > budget:
            groups.append(_split(rows[of], tails, heads[of], budget, shared))
            filled = budget + 1
        elif filled + tokens <= budget:
            groups[-1][0].extend(rows[of])
            filled += tokens
        else:
            groups.append([list(rows[of])])
            filled = tokens
    return groups


def _split(rows: list[int], tails: list[int], head: int, budget: int, shared: bool) -> list[MicroBatch]:
    """The responses of one prompt in parts that keep to the budget, in order of their length."""
    parts: list[MicroBatch] = []
    filled = budget
    for row in sorted(rows, key=lambda row: (tails[row], row)):
        tokens = tails[row] + (0 if shared else head)
        if not parts or filled + tokens > budget:
            parts.append([])
            filled = head if shared else 0
        parts[-1].append(row)
        filled += tokens
    return parts
