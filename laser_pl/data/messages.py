"""A data set's prompt: a text, or a chat of messages, that something is to be written after."""

from __future__ import annotations

from typing import Any

from laser_pl.errors import ConfigurationError

ROLES = ("system", "developer", "user", "assistant", "tool")
"""Whose turn a message may be. Chat templates write any other role out as it is, or leave the message out."""


def without_unwritable(prompt: Any) -> Any:
    """A chat whose messages hold only what a run can write down: no time stamps, as data sets of chats bring them.

    >>> from datetime import date
    >>> without_unwritable([{"role": "user", "content": "Hi", "sent": date(2026, 1, 1)}])
    [{'role': 'user', 'content': 'Hi'}]
    """
    if not isinstance(prompt, list):
        return prompt
    return [
        {name: value for name, value in turn.items() if _is_json(value)} if isinstance(turn, dict) else turn
        for turn in prompt
    ]


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(part) for name, part in value.items())
    return all(map(_is_json, value)) if isinstance(value, list) else isinstance(value, str | int | float | None)


def refuse_unusable(prompt: Any, column: str) -> None:
    """See whether a prompt is a text or a chat that the assistant is to answer.

    Args:
        prompt: What a row holds.
        column: How to call it in messages, with its row.

    Raises:
        ConfigurationError: If it is neither, or empty, or a chat whose last turn is the assistant's: reward models read
            a response as the assistant's turn, so what is there already would be another one.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ConfigurationError(f"{column} is empty.")
        return
    if not isinstance(prompt, list):
        raise ConfigurationError(f"{column} must be a string or a list of messages, got {type(prompt).__name__}.")
    if not prompt:
        raise ConfigurationError(f"{column} is empty.")
    for number, message in enumerate(prompt, start=1):
        _refuse_message(message, f"{column}, message {number}:")
    if prompt[-1]["role"] == "assistant":
        raise ConfigurationError(
            f"{column} ends with the assistant's turn, which the policy is to write. Take the last message out of the"
            " rows; a supervised policy learns it from data.columns.response."
        )
    if not prompt[-1]["content"].strip():
        raise ConfigurationError(f"{column} is empty: its last message says nothing.")


def _refuse_message(message: Any, which: str) -> None:
    if not isinstance(message, dict):
        raise ConfigurationError(f"{which} must have a role and a content, got {type(message).__name__}.")
    if missing := {"role", "content"} - message.keys():
        raise ConfigurationError(
            f"{which} has no {' and no '.join(sorted(missing))}, only {', '.join(map(str, message))}. Rename its keys."
        )
    role, content = message["role"], message["content"]
    if not isinstance(content, str):
        raise ConfigurationError(
            f"{which} content must be a text, got {type(content).__name__}. Parts other than text, such as images, are"
            " not read: join the texts."
        )
    if role not in ROLES:
        raise ConfigurationError(f"{which} its role {role!r} is none of {', '.join(ROLES)}. Rename it.")
