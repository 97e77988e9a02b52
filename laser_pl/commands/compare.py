"""``python -m laser_pl compare``: finished runs side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.errors import writable
from laser_pl.messages.terminal import shown
from laser_pl.report.comparison import Row, compare
from laser_pl.report.comparison_figures import Records, curves_figure
from laser_pl.report.comparison_page import comparison_page
from laser_pl.report.comparison_tables import markdown, print_comparison, tidy_csv
from laser_pl.report.records import read_records, told_of
from laser_pl.report.runs import Run, by_strategy, read_run, refuse_different_budgets, strategy_called
from laser_pl.run.files import write_whole


def compare_runs(args: Sequence[str]) -> list[Row]:
    """Read runs, print the comparison, and write ``comparison.md`` and ``.csv``; a page and to W&B where asked.

    Args:
        args: What stands behind ``compare`` on the command line.

    Raises:
        ConfigurationError: If something is no finished run, or the runs cannot be compared.
    """
    parser = Arguments("compare", "Compare finished runs over seeds.")
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", type=Path, help="Folders of finished runs, such as runs/gap-*."
    )
    parser.add_argument(
        "--baseline", help="The strategy to compare with, or one of its runs; the first's if not given."
    )
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="Folder for the files.")
    parser.add_argument("--html", action="store_true", help="Write a page with curves as well.")
    parser.add_argument(
        "--wandb", metavar="PROJECT", help="Log table, curves and page to W&B, as a run of that project."
    )
    parser.add_argument("--different-budgets", action="store_true", help="Compare runs that were not allowed the same.")
    options = parser.parse_args(args)
    with told_of(options.runs[0]):
        return _compare(options)


def _compare(options: Namespace) -> list[Row]:
    strategies = by_strategy([read_run(folder) for folder in options.runs])
    if not options.different_budgets:
        refuse_different_budgets(strategies)
    baseline = next(iter(strategies)) if options.baseline is None else strategy_called(options.baseline, strategies)
    rows = compare(strategies, baseline)
    print_comparison(rows, baseline)
    with writable(options.out, "Set --out."):
        write_whole(options.out / "comparison.md", markdown(rows, baseline))
        write_whole(options.out / "comparison.csv", tidy_csv(rows))
        if options.html or options.wandb:
            records = _records(strategies)
            page = comparison_page(rows, baseline, records)
            write_whole(options.out / "comparison.html", page)
    print(f"Written: {shown(str(options.out))}/comparison.md, .csv{', .html' if options.html or options.wandb else ''}")
    if options.wandb:
        from laser_pl.report.comparison_wandb import log_comparison  # here, since it takes seconds and is seldom wanted

        runs = {name: [run.name for run in own.values()] for name, own in strategies.items()}
        where = log_comparison(options.wandb, options.out, rows, curves_figure(records), page, runs)
        print(f"In W&B: {shown(where)}")
    return rows


def _records(strategies: Mapping[str, Mapping[int, Run]]) -> Records:
    return {name: [read_records(run.folder) for run in runs.values()] for name, runs in strategies.items()}


def main(args: Sequence[str]) -> list[Row]:
    """The command.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    return run_command(compare_runs, args)
