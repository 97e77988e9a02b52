"""What others write to the terminal while a picture stands on its last lines."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Above(io.TextIOBase):
    """Takes the place of ``sys.stdout`` or ``sys.stderr`` and hands on whole lines, which go above the picture.

    `rich` has one of its own, which reads what was flushed before its line ended as markup: a bracket in it could end
    the run.

    Args:
        stream: What it takes the place of.
        say: Where lines go, without their ends.
    """

    def __init__(self, stream: TextIO, say: Callable[[str], None]) -> None:
        self.stream = stream
        self._say = say
        self._line = ""

    def write(self, text: str) -> int:
        """Keep what is no whole line yet. Of a line that overwrites itself the last state counts."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._say(line.removesuffix("\r").rsplit("\r", 1)[-1])
        return len(text)

    def finish(self) -> None:
        """Hand on what is left."""
        if self._line:
            self.write("\n")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As what it takes the place of."""
        return self.stream.encoding

    def isatty(self) -> bool:
        """As what it takes the place of."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """As what it takes the place of."""
        return self.stream.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def written_above(say: Callable[[str], None]) -> Iterator[None]:
    """Send what is printed, logged and warned to ``say``, line by line, if it would have gone to a terminal.

    Handlers of loggers hold the stream that they were made with, so that they are given another for a while.
    """
    streams = {name: Above(stream, say) for name in ("stdout", "stderr") if (stream := getattr(sys, name)).isatty()}
    handlers = [
        (handler, above)
        for handler in _stream_handlers()
        for above in streams.values()
        if handler.stream is above.stream
    ]
    for name, above in streams.items():
        setattr(sys, name, above)
    for handler, above in handlers:
        handler.setStream(above)
    try:
        yield
    finally:
        for handler, above in handlers:
            if handler.stream is above:
                handler.setStream(above.stream)
        for name, above in streams.items():
            if getattr(sys, name) is above:
                setattr(sys, name, above.stream)
            above.finish()


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    """Those that hold a stream; one that looks `sys.stderr` up when it writes needs no other."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [handler for one in known if isinstance(one, logging.Logger) for handler in one.handlers]
    return [one for one in handlers if isinstance(one, logging.StreamHandler) and "stream" in vars(one)]
