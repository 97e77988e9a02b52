"""Where a response begins and ends in a chat, as a reward model's own template writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laser_pl.batches import Message
from laser_pl.data.templates import chat_text
from laser_pl.errors import ConfigurationError

_PROBE = "\ue000"
"""A response of one character that no template writes; what stands around it is the template's."""


def conversation(messages: Sequence[Message], response: str, tokenizer: Any) -> str:
    """The chat with the response as the assistant's last turn.

    Raises:
        ConfigurationError: If the template refuses it.
    """
    return chat_text(tokenizer, [*messages, {"role": "assistant", "content": response}])


def turns(messages: Sequence[Message], responses: Sequence[str], tokenizer: Any) -> list[tuple[str, str]]:
    """What a model has read when it is to answer, and what it would write: a response, and what ends its turn.

    The first part is the chat with the template's generation prompt, as long as the chat with a response begins alike.
    What the template then puts before a response by itself (an empty ``<think>`` block) is in neither part, but for
    white space, which is the first part's. Where it begins otherwise, because the generation prompt opens a thought
    that the finished turn no longer shows, the first part is what stands before the response, unless the response goes
    on with the thought.

    The second part is the response as the template shows it, which may be without the white space around it, up to the
    first special token behind it. A template that ends turns with plain text has that text, one that ends them with
    nothing the tokenizer's EOS.

    Args:
        messages: The prompt as a chat.
        responses: Responses to it.
        tokenizer: A tokenizer with a chat template.

    Raises:
        ConfigurationError: If the template refuses the chat, or does not show the assistant's turn.
    """
    asked = chat_text(tokenizer, messages, add_generation_prompt=True)
    before, shown, after = conversation(messages, _PROBE, tokenizer).rpartition(_PROBE)
    if not shown:
        raise ConfigurationError(
            f"The chat template of '{tokenizer.name_or_path}' does not show the assistant's turn, so no response can be"
            " scored."
        )
    if before.startswith(asked) and (not before[len(asked) :].strip() or asked == chat_text(tokenizer, messages)):
        asked = before  # white space, or the head of the turn where the template knows no generation prompt
    end = _end_of_turn(after, tokenizer)
    found = []
    for response in responses:
        whole = conversation(messages, response, tokenizer)
        content = whole[len(before) : len(whole) - len(after)]
        if before + content + after == whole and content.strip() == response.strip():
            start = asked if before.startswith(asked) else before
        else:  # the template shows a part of it only, without its thoughts: all of it was written
            content = response
            start = before if (before + response).startswith(asked) and asked.startswith(before) else asked
        found.append((start, content + end))
    return found


def _end_of_turn(after: str, tokenizer: Any) -> str:
    """The part of what stands behind a response that the model writes itself."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    ends = [after.index(token) + len(token) for token in special if token.strip() and token in after]
    return after[: min(ends)] if ends else after.rstrip() or tokenizer.eos_token or ""
