"""What may be shown on a terminal: text of models, data sets and servers is no command to it."""

from __future__ import annotations

import logging

from rich.markup import escape

from laser_pl.messages.keys import masked


def shown(text: str) -> str:
    r"""Text with everything escaped that a terminal would act on, or that would hide what it says.

    Control characters, line breaks, marks that reverse the direction of writing, and halves of characters.

    >>> shown("straße \x1b[31mred\n\u202e")
    'straße \\x1b[31mred\\n\\u202e'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def as_markup(text: str) -> str:
    """The same for `rich`, to which square brackets mean something."""
    return escape(shown(text))


class PlainFormatter(logging.Formatter):
    """Formats a message as text that may be shown; its own line breaks stay."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, without keys, and the traceback where there is one."""
        return "\n".join(map(shown, masked(super().format(record)).split("\n")))
