"""``python -m laser_pl``."""

from __future__ import annotations

import sys


def run() -> None:
    """The process's own command. Looking at runs needs none of what training imports, and starts at once without it."""
    command, args = sys.argv[1:2], sys.argv[2:]
    if command == ["compare"]:
        from laser_pl.compare import main as compare

        compare(args)
    elif command == ["report"]:
        from laser_pl.report.command import main as report

        report(args)
    elif command == ["explain"]:
        from laser_pl.explain import main as explain

        explain(args)
    elif command == ["export"]:
        from laser_pl.export import main as export

        export(args)
    elif command == ["plan"]:
        from laser_pl.forecast.command import main as plan

        plan(args)
    else:
        from laser_pl.cli import main

        main()


if __name__ == "__main__":
    run()
