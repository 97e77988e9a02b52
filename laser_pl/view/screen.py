"""The live view: a picture on the last lines of a terminal, and what is said above it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TextIO

from rich.ansi import AnsiDecoder
from rich.console import Console, RenderableType
from rich.live import Live
from rich.segment import SegmentLines
from rich.text import Text

from laser_pl.runtime.progress import Task
from laser_pl.view.above import written_above
from laser_pl.view.picture import picture
from laser_pl.view.state import State
from laser_pl.view.ticker import Ticker

log = logging.getLogger(__name__)

REDRAWN_EVERY = 0.5
"""Seconds."""
ECHO = "^C"
"""What a terminal adds to the last line, which it must not wrap."""


class _Terminal(Console):
    """A console whose cursor stays where it is to be seen, so that no way to end a process leaves it hidden."""

    def show_cursor(self, show: bool = True) -> bool:
        """Nothing."""
        return False


class Screen:
    """Draws a state that others replace. The picture goes at the end, and what was said stays.

    Args:
        state: Returns the state of the moment.
    """

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state
        self._decoder = AnsiDecoder()
        self._ticker = Ticker(self._draw, REDRAWN_EVERY)
        self._exits = ExitStack()
        self._failed = False

    @staticmethod
    def fits(stream: TextIO) -> bool:
        """Whether the stream is a terminal that can be drawn on."""
        return stream.isatty() and not Console(file=stream, force_terminal=True).is_dumb_terminal

    def start(self) -> None:
        """Take the last lines of the terminal."""
        self._console = _Terminal(file=sys.stderr, force_terminal=True, force_interactive=True, force_jupyter=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False,
                          redirect_stderr=False, vertical_overflow="crop", get_renderable=self._picture)  # fmt: skip
        self._exits.enter_context(written_above(self.say))
        self._live.start()
        self._exits.callback(self._erase)
        self._ticker.start()
        self._exits.callback(self._ticker.stop)

    def close(self) -> None:
        """Give them back."""
        self._exits.close()

    def begins(self, task: Task) -> None:
        """Nothing: the next picture shows it."""

    def say(self, line: str) -> None:
        """Something that is to stay, as it is to be shown; it goes above the picture."""
        with suppress(OSError):  # the terminal may be gone; the run is not
            self._console.print(Text("\n").join(self._decoder.decode(line)), soft_wrap=True)

    def _picture(self) -> RenderableType:
        """The picture, drawn here, so that no mistake in it reaches whoever writes above it."""
        if self._failed:
            return ""
        try:
            width, height = self._console.size
            room = self._console.options.update(width=max(width - len(ECHO), 1))
            drawn = picture(self._state(), time.monotonic(), room.max_width, height)
            return SegmentLines(self._console.render_lines(drawn, room, pad=False), new_lines=True)
        except Exception as error:
            self._failed = True
            log.warning("The run is shown no longer, and goes on (%s: %s).", type(error).__name__, error)
            return ""

    def _draw(self) -> None:
        self._live.refresh()

    def _erase(self) -> None:
        with suppress(OSError):
            self._live.stop()
