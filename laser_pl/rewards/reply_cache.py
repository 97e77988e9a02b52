"""Replies that were paid for, kept on disk."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

from laser_pl.errors import ConfigurationError, writable
from laser_pl.rewards.chat_reply import Reply
from laser_pl.run.files import append_lines, ended_lines

log = logging.getLogger(__name__)


class ReplyCache:
    """Replies by the digest of what was asked, as lines of JSON files in a folder.

    Each process writes a file of its own and reads all that lie there when it begins, so that several may use a folder,
    also over a network. A line that is damaged is asked for again, with a warning; one that is only half written (its
    writer was killed, or is writing it) without one.

    Args:
        folder: The folder, which is made if it is not there.
        answers: What may be answered; lines that say something else are damaged.

    Raises:
        ConfigurationError: If it cannot be read or made.
    """

    def __init__(self, folder: Path, answers: Collection[str]) -> None:
        self.folder = folder
        self._own = folder / f"replies-{secrets.token_hex(8)}.jsonl"
        self._known: dict[str, Reply] = {}
        with self._writable():
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("replies-*.jsonl")):
                self._read(path, frozenset(answers))

    def find(self, digest: str) -> Reply | None:
        """What was replied; None if that was not asked."""
        return self._known.get(digest)

    def keep(self, digest: str, reply: Reply, text: str) -> None:
        """Write a reply down.

        Args:
            digest: Of what was asked.
            reply: What the reply came to.
            text: Its beginning, for people.

        Raises:
            ConfigurationError: If it cannot be written.
        """
        self._known[digest] = reply
        line = {"key": digest, "answer": reply.answer, "probabilities": dict(reply.probabilities), "text": text}
        with self._writable():
            append_lines(self._own, [line])

    def _writable(self) -> Any:
        return writable(self.folder, "Make room, or set the chat judge's cache to a folder that takes files.")

    def _read(self, path: Path, answers: frozenset[str]) -> None:
        damaged = 0
        for text in ended_lines(path):
            try:
                line = json.loads(text)
                digest, reply = line["key"], _reply_of(line, answers)
            except (ValueError, LookupError, TypeError, RecursionError):
                damaged += 1
                continue
            self._known[digest] = reply
        if damaged:
            log.warning("%s holds %d lines that are no replies. They are passed over, and asked for again.",
                        path, damaged)  # fmt: skip


def refuse_as_folder(cache: str) -> None:
    """See whether replies could be kept there, without making it.

    Raises:
        ConfigurationError: If there is something else.
    """
    path = Path(cache)
    for place in [path, *path.parents]:
        if place.exists() and not place.is_dir():
            raise ConfigurationError(f"'{place}' is no folder. Set the chat judge's cache to another one, or to null.")


def _reply_of(line: Any, answers: frozenset[str]) -> Reply:
    answer, probabilities = line["answer"], line["probabilities"]
    if not isinstance(line["key"], str) or not isinstance(probabilities, dict):
        raise ValueError
    if not ({answer} - {None} | set(probabilities)) <= answers:
        raise ValueError
    if not all(type(value) is float and 0 <= value < 1e6 for value in probabilities.values()):
        raise ValueError
    return Reply(answer, probabilities)
