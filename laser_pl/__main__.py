"""``python -m laser_pl``."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

from laser_pl.command_line.arguments import run_command
from laser_pl.command_line.commands import OTHERS, overview, refuse_other_command, run_other
from laser_pl.keys import masked
from laser_pl.terminal import shown


def run() -> None:
    """The process's own command. Looking at runs needs none of what training imports, and starts at once without it."""
    words = sys.argv[1:]
    sys.excepthook = _tell
    run_command(refuse_other_command, words)
    if words[0] in OTHERS:
        run_other(words[0], words[1:])
    elif words in (["-h"], ["--help"]):
        print(overview(), end="")
    else:
        from laser_pl.cli import main

        main()


def _tell(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """A traceback may quote models, data sets and servers as well."""
    lines = "".join(traceback.format_exception(kind, error, where)).splitlines()
    print("\n".join(shown(masked(line)) for line in lines), file=sys.stderr)


if __name__ == "__main__":
    run()
