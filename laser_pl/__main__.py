"""``python -m laser_pl``."""

from __future__ import annotations

import sys


def run() -> None:
    """The process's own command. Comparing needs none of what training imports, and starts at once without it."""
    if sys.argv[1:2] == ["compare"]:
        from laser_pl.compare import main as compare

        compare(sys.argv[2:])
    else:
        from laser_pl.cli import main

        main()


if __name__ == "__main__":
    run()
