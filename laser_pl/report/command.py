"""``python -m laser_pl report``: a run as a page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.errors import writable
from laser_pl.messages.terminal import shown
from laser_pl.report.model_card import model_card
from laser_pl.report.page import page
from laser_pl.report.records import read_records, told_of
from laser_pl.report.warnings import warnings_of
from laser_pl.run.files import write_whole
from laser_pl.run.folder import RunFolder

log = logging.getLogger(__name__)


def report_run(args: Sequence[str]) -> Path:
    """Write a run's ``report.html``, whether the run is finished or not.

    Args:
        args: What stands behind ``report`` on the command line.

    Returns:
        The page.

    Raises:
        ConfigurationError: If there is no run, or nothing can be written to its folder.
    """
    parser = Arguments("report", "Show a run as a page, whether it is finished, going on, or was interrupted.")
    parser.add_argument("run", metavar="RUN", type=Path, help="A run's folder, such as runs/quickstart.")
    options = parser.parse_args(args)
    with told_of(options.run), writable(options.run):
        records = read_records(options.run)
        write_whole(records.folder.report, page(records), records.folder.path)
        warnings = warnings_of(records)
    for warning in warnings:
        print(f"Worth a look: {shown(str(warning))}")
    print(f"Written: {shown(str(records.folder.report))}")
    return records.folder.report


def report_after_fit(folder: RunFolder) -> None:
    """Say what is odd about a run that has just ended, and write its page and its adapter's card.

    No failure to do so loses the run.
    """
    try:
        records = read_records(folder.path)
        for warning in warnings_of(records):
            log.warning("Worth a look: %s", warning)
        write_whole(folder.report, page(records), folder.path)
        write_whole(folder.adapter / "README.md", model_card(records), folder.path)
    except Exception as error:
        log.warning("The report could not be written (%s). Once that is mended: python -m laser_pl report %s",
                    " ".join(f"{type(error).__name__}: {error}".split()), folder.path)  # fmt: skip


def main(args: Sequence[str]) -> Path:
    """The command.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    return run_command(report_run, args)
