"""How a reward model's own tokenizer reads a prompt with a response, and what it leaves out of what is too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from laser_pl.batches import Prompt
from laser_pl.data.behind import ids_behind, plain_ids, shared_start
from laser_pl.data.prompts import prompt_ids, to_go_on_from
from laser_pl.data.templates import content_of, messages_of
from laser_pl.rewards.turns import conversation, turns

Side = Literal["left", "right"]
"""Which end of a text that is too long is cut off."""


@dataclass(frozen=True)
class Text:
    """A prompt with a response, as a classifier reads it.

    Attributes:
        ids: Token ids.
        types: Of each token which part it belongs to, where the tokenizer distinguishes two; as long, or empty.
    """

    ids: list[int]
    types: list[int]


def whole_texts(tokenizer: Any, prompt: Prompt, responses: Sequence[str], chat_template: bool) -> list[Text]:
    """A prompt with each response to it, as classifiers are trained on them.

    With a chat template it is the chat as the template writes it, and nothing more. Without one, a tokenizer that knows
    how to set two texts apart (BERT's ``[CLS] q [SEP] a [SEP]``) does so; for others the response stands right behind
    the prompt, with BOS where the tokenizer sets one and EOS at the end.

    Args:
        tokenizer: The reward model's.
        prompt: The prompt, as the data set has it.
        responses: The responses.
        chat_template: Whether to use the tokenizer's chat template.

    Raises:
        ConfigurationError: If the template refuses the chat.
    """
    if chat_template:
        chats = [conversation(messages_of(prompt.prompt), response, tokenizer) for response in responses]
        return [Text(ids, []) for ids in plain_ids(chats, tokenizer)]
    question = content_of(prompt.prompt)
    if _sets_apart(tokenizer):
        pairs = tokenizer([question] * len(responses), list(responses), verbose=False)
        types = pairs.get("token_type_ids") or [[] for _ in responses]
        return [Text(*row) for row in zip(pairs["input_ids"], types, strict=True)]
    texts = [question + response for response in responses]
    rows = tokenizer(texts, verbose=False)["input_ids"]
    return [
        Text([*to_go_on_from(ids, text, tokenizer), *_end(tokenizer)], [])
        for ids, text in zip(rows, texts, strict=True)
    ]


def tokenize(
    tokenizer: Any, prompt: Prompt, responses: Sequence[str], chat_template: bool
) -> tuple[list[int], list[list[int]]]:
    """Token ids of ``whole_texts``: what they have of the prompt, and of each what goes behind that."""
    rows = [text.ids for text in whole_texts(tokenizer, prompt, responses, chat_template)]
    if chat_template:
        ((head, _),) = turns(messages_of(prompt.prompt), [""], tokenizer)
        (ids,) = plain_ids([head], tokenizer)
    elif _sets_apart(tokenizer):
        ids = tokenizer(content_of(prompt.prompt), verbose=False)["input_ids"]
    else:
        ids = prompt_ids(content_of(prompt.prompt), tokenizer)
    length = min(shared_start(ids, row) for row in rows)
    return rows[0][:length], [row[length:] for row in rows]


def continuations(
    tokenizer: Any, prompt: Prompt, responses: Sequence[str], chat_template: bool
) -> list[tuple[list[int], list[int]]]:
    """Token ids of what a language model has read, and of what it would write: each response and what ends it.

    They are those of the whole text, so a token that spans the two is the response's. With a chat template see
    ``turns``; without one the response stands right behind the prompt, with BOS where the tokenizer sets one and EOS at
    the end.

    Args:
        tokenizer: The reward model's.
        prompt: The prompt, as the data set has it.
        responses: The responses.
        chat_template: Whether to use the tokenizer's chat template.

    Raises:
        ConfigurationError: If the template refuses the chat.
    """
    if chat_template:
        parts, end = turns(messages_of(prompt.prompt), responses, tokenizer), []
    else:
        parts, end = [(content_of(prompt.prompt), response) for response in responses], _end(tokenizer)
    texts = [head + turn for head, turn in parts]  # all at once: a tokenizer reads several side by side
    options = {"add_special_tokens": not chat_template, "return_offsets_mapping": tokenizer.is_fast, "verbose": False}
    encoded = tokenizer(texts, **options)
    offsets = encoded.get("offset_mapping") or [None] * len(texts)
    found = []
    for (head, turn), text, row, places in zip(parts, texts, encoded["input_ids"], offsets, strict=True):
        ids = to_go_on_from(row, text, tokenizer)
        if places is None:
            length = shared_start(prompt_ids(head, tokenizer, special_tokens=not chat_template), ids)
        else:  # a special token may take the white space behind it along (Phi-3), which does not make it the response's
            special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
            length = len(ids) - sum(
                stop > len(head) and not (begin < len(head) and id_ in special)
                for id_, (begin, stop) in zip(row, places, strict=True)
            )
        if length > 0:
            found.append((ids[:length], [*ids[length:], *end]))
        else:  # the first token spans the two, and nothing stands before it
            found.append((prompt_ids(head, tokenizer), [*ids_behind(turn, head, tokenizer), *end]))
    return found


def _sets_apart(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a separator between two texts, as those of encoders do.

    T5's separator is EOS. A tokenizer that begins both texts with BOS only sets two texts one behind the other.
    """
    separators = {tokenizer.sep_token_id, tokenizer.eos_token_id} - {None}
    ids = tokenizer([""], [""])["input_ids"][0]
    return not separators.isdisjoint(ids[:-1]) and tokenizer.bos_token_id not in ids[1:]


def _end(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def cut_text(ids: list[int], limit: int, side: Side, bos: int | None) -> list[int]:
    """At most ``limit`` tokens of one text; BOS stays the first, and the last token, where the score is read, stays.

    >>> cut_text([0, 1, 2, 3, 9], limit=3, side="left", bos=0), cut_text([0, 1, 2, 3, 9], limit=3, side="right", bos=0)
    ([0, 3, 9], [0, 1, 9])
    """
    return [ids[place] for place in kept_places(len(ids), limit, side, ids[:1] == [bos])]


def kept_places(length: int, limit: int, side: Side, keep_first: bool) -> list[int]:
    """Places of the tokens that stay of a text of ``length``; the last one does, and with ``keep_first`` the first.

    >>> kept_places(5, limit=3, side="left", keep_first=False)
    [2, 3, 4]
    """
    places = list(range(length))
    if length <= limit:
        return places
    if side == "right":
        return [*places[: limit - 1], length - 1]
    start = places[:1] if keep_first and limit > 1 else []
    return [*start, *places[length - (limit - len(start)) :]]


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
