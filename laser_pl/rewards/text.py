"""How a reward model's own tokenizer reads a prompt with a response."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.data.prompts import prompt_ids
from laser_pl.data.templates import content_of, messages_of


def tokenize(tokenizer: Any, prompt: Prompt, response: str, chat_template: bool) -> tuple[list[int], int]:
    """Token ids of prompt and response, with BOS where the tokenizer sets one and EOS at the end.

    Args:
        tokenizer: The reward model's.
        prompt: The prompt, as the data set has it.
        response: The response.
        chat_template: Whether to use the tokenizer's chat template, or to put the response right behind the prompt.

    Returns:
        The ids, and how many of them belong to the prompt.
    """
    if chat_template:
        messages = messages_of(prompt.prompt)
        head = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        answer = {"role": "assistant", "content": response}
        whole = tokenizer.apply_chat_template([*messages, answer], tokenize=False)
        tail = whole[len(head) :] if whole.startswith(head) else response
        start, end = tokenizer(head, add_special_tokens=False)["input_ids"], []
        if tokenizer.eos_token is not None and tokenizer.eos_token not in tail:
            end = [tokenizer.eos_token_id]
        return [*start, *tokenizer(tail, add_special_tokens=False)["input_ids"], *end], len(start)
    start = prompt_ids(content_of(prompt.prompt), tokenizer)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return [*start, *tokenizer(response, add_special_tokens=False)["input_ids"], *end], len(start)


def batches_by_tokens(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices in groups of like length, so that a group padded to its longest holds at most ``max_tokens`` tokens.

    A row longer than that goes alone.

    >>> list(batches_by_tokens([5, 1, 4, 1], max_tokens=8))
    [[1, 3], [2], [0]]
    """
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[index] > max_tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def pad_right(ids: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and mask, padded on the right. Shapes ``(R, T)``."""
    width = max(map(len, ids))
    tokens = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in ids], device=device)
    lengths = torch.tensor([len(row) for row in ids], device=device)
    return tokens, (torch.arange(width, device=device) < lengths[:, None]).long()
