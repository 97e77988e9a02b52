"""How a reward model's own tokenizer reads a prompt with a response, and what it leaves out of what is too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from laser_pl.batches import Prompt
from laser_pl.data.prompts import prompt_ids
from laser_pl.data.templates import content_of, messages_of

Side = Literal["left", "right"]
"""Which end of a text that is too long is cut off."""


def tokenize(
    tokenizer: Any, prompt: Prompt, responses: Sequence[str], chat_template: bool
) -> tuple[list[int], list[list[int]]]:
    """Token ids of a prompt and of each response to it, with BOS where the tokenizer sets one and EOS at the end.

    Args:
        tokenizer: The reward model's.
        prompt: The prompt, as the data set has it.
        responses: The responses.
        chat_template: Whether to use the tokenizer's chat template, or to put the response right behind the prompt.

    Returns:
        The prompt's ids, and each response's, which go behind them.
    """
    if not chat_template:
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        tails = [[*_ids(tokenizer, response), *end] for response in responses]
        return prompt_ids(content_of(prompt.prompt), tokenizer), tails
    messages = messages_of(prompt.prompt)
    head = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tails = []
    for response in responses:
        answer = {"role": "assistant", "content": response}
        whole = tokenizer.apply_chat_template([*messages, answer], tokenize=False)
        tail = whole[len(head) :] if whole.startswith(head) else response
        ended = tokenizer.eos_token is None or tokenizer.eos_token in tail
        tails.append([*_ids(tokenizer, tail), *([] if ended else [tokenizer.eos_token_id])])
    return _ids(tokenizer, head), tails


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def cut_text(ids: Sequence[int], limit: int, side: Side, bos: int | None) -> list[int]:
    """At most ``limit`` tokens of one text; BOS stays the first, and the last token, where the score is read, stays.

    >>> cut_text([0, 1, 2, 3, 9], limit=3, side="left", bos=0), cut_text([0, 1, 2, 3, 9], limit=3, side="right", bos=0)
    ([0, 3, 9], [0, 1, 9])
    """
    if len(ids) <= limit:
        return list(ids)
    if side == "right":
        return [*ids[: limit - 1], ids[-1]]
    start = [ids[0]] if ids[0] == bos and limit > 1 else []
    return [*start, *ids[len(ids) - (limit - len(start)) :]]


def cut_parts(
    head: Sequence[int], tail: Sequence[int], limit: int, side: Side, bos: int | None
) -> tuple[list[int], list[int]]:
    """At most ``limit`` tokens of prompt and response, at least one of the prompt beside BOS.

    On the left the prompt's oldest tokens go first, but for BOS; on the right the response's last ones. Of a response
    that is too long by itself the end goes in either case.

    >>> cut_parts([0, 1, 2, 3], [4, 5], limit=4, side="left", bos=0)
    ([0, 3], [4, 5])
    >>> cut_parts([0, 1, 2, 3], [4, 5], limit=5, side="right", bos=0)
    ([0, 1, 2, 3], [4])
    """
    least = 2 if head[0] == bos and limit > 2 else 1
    tail = list(tail[: limit - least] if side == "left" else tail[: max(limit - len(head), 1)])
    room = limit - len(tail)
    if len(head) <= room:
        return list(head), tail
    start = [head[0]] if head[0] == bos and room > 1 else []
    return [*start, *head[len(head) - (room - len(start)) :]], tail
