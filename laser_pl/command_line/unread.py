"""Output that nobody reads any more, as behind ``| head``."""

from __future__ import annotations

import io
import os
from typing import Any, TextIO


class _Heedless(io.FileIO):
    """A file that goes on into nothing once the reader at its other end has gone."""

    def write(self, data: Any) -> int:
        """As any file's."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return len(memoryview(data).cast("B"))


def heedless_of_readers(stream: TextIO) -> TextIO:
    """The same stream of this process, to which it does not matter whether somebody reads.

    A run that trains for a day must not end because a pager was closed.

    Args:
        stream: Standard output or error. None, where the process has been started without, and what has no descriptor
            come back as they are.
    """
    if stream is None or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    try:
        raw = _Heedless(stream.fileno(), "w", closefd=False)
    except io.UnsupportedOperation:  # it writes into memory
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
