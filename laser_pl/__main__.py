"""``python -m laser_pl``."""

from __future__ import annotations

import sys

from laser_pl.command_line.arguments import run_command
from laser_pl.command_line.commands import OTHERS, overview, refuse_other_command, run_other


def run() -> None:
    """The process's own command. Looking at runs needs none of what training imports, and starts at once without it."""
    words = sys.argv[1:]
    run_command(refuse_other_command, words)
    if words[0] in OTHERS:
        run_other(words[0], words[1:])
    elif words in (["-h"], ["--help"]):
        print(overview(), end="")
    else:
        from laser_pl.cli import main

        main()


if __name__ == "__main__":
    run()
