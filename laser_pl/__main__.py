"""``python -m laser_pl``."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

from laser_pl import __version__
from laser_pl.command_line.arguments import run_command
from laser_pl.command_line.commands import OTHERS, overview, refuse_other_command, run_other
from laser_pl.command_line.unread import heedless_of_readers
from laser_pl.messages.keys import masked
from laser_pl.messages.terminal import shown


def run() -> None:
    """The process's own command. Looking at runs needs none of what training imports, and starts at once without it."""
    sys.stdout, sys.stderr = heedless_of_readers(sys.stdout), heedless_of_readers(sys.stderr)
    if not getattr(sys.flags, "safe_path", False) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: the installed script finds the user's modules as well
    words = sys.argv[1:]
    sys.excepthook = _tell
    run_command(refuse_other_command, words)
    if words[0] in OTHERS:
        run_other(words[0], words[1:])
    elif words in (["-h"], ["--help"]):
        print(overview(), end="")
    elif words == ["--version"]:
        print(f"laser_pl {__version__}")
    else:
        from laser_pl.commands.cli import main

        main()


def _tell(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """A traceback may quote models, data sets and servers as well."""
    lines = "".join(traceback.format_exception(kind, error, where)).splitlines()
    print("\n".join(shown(masked(line)) for line in lines), file=sys.stderr)


if __name__ == "__main__":
    run()
