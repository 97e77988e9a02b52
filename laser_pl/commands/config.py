"""``python -m laser_pl config``: the configurations that come with the package, listed, shown and copied."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.command_line.commands import OTHERS
from laser_pl.command_line.shipped import KINDS, kind_of, lacks, path_of, purpose_of, shipped
from laser_pl.errors import ConfigurationError, writable


def arguments() -> Arguments:
    """The command line."""
    parser = Arguments("config", OTHERS["config"][1])
    parser.add_argument("action", choices=("ls", "show", "cp"), help="What to do.")
    parser.add_argument("name", metavar="NAME", nargs="?", help="Which one, as ls has it.")
    parser.add_argument("dest", metavar="DEST", nargs="?", type=Path, default=Path(),
                        help="cp: a file, or a folder to put it in; the working directory if left out.")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="cp: write over a file that is there.")
    return parser


def config(args: Sequence[str]) -> str:
    """Do what is asked for.

    Args:
        args: What stands behind ``config`` on the command line.

    Returns:
        What is printed.

    Raises:
        ConfigurationError: If there is no such configuration, or a file is in the way of a copy.
    """
    options = arguments().parse_args(args)
    if options.action == "ls":
        if options.name is not None:
            raise ConfigurationError(f"config ls takes no name. Did you mean 'config show {options.name}'?")
        return listed(shutil.get_terminal_size().columns)
    if options.name is None:
        raise ConfigurationError(f"config {options.action}: name a configuration. See python -m laser_pl config ls.")
    source = path_of(options.name)
    if options.action == "show":
        return source.read_text(encoding="utf-8").rstrip()
    out = options.dest / source.name if options.dest.is_dir() else options.dest
    with writable(out, "Give config cp another name."):
        if out.exists() and not options.force:
            raise ConfigurationError(f"config cp: '{out}' is there already. Give another name, or say --force.")
        out.write_bytes(source.read_bytes())
    return f"{out} is {options.name}; {_needs(source) or 'it needs nothing that is not here'}."


def listed(width: int) -> str:
    """All configurations with their purpose, and what each needs that is not here.

    Args:
        width: Of the terminal, in columns.
    """
    known = shipped()
    indent = max(map(len, known)) + 4
    lines = ["Use one anywhere by --config preset:NAME; a later one overlays an earlier one."]
    for kind, title in KINDS.items():
        lines += ["", f"{title}:"]
        for name, path in known.items():
            if kind_of(path) == kind:
                needs = _needs(path)
                text = purpose_of(path) + (f" [{needs}]" if needs else "")
                rows = textwrap.wrap(text, max(width - indent, 40), break_long_words=False, break_on_hyphens=False)
                lines += [f"  {name:{indent - 2}}{rows[0]}", *(" " * indent + row for row in rows[1:])]
    return "\n".join(lines)


def _needs(path: Path) -> str:
    """What a configuration asks for that is not here, in words; empty if nothing."""
    missing = lacks(path)
    checkout = sorted({"/".join(name.split("/")[:2]) for name in missing if name.startswith("experiments/")})
    hub = [name for name in missing if not name.startswith("experiments/")]
    said = [f"needs {' and '.join(checkout)} of a checkout"] if checkout else []
    return "; ".join([*said, *([f"needs {', '.join(hub)} from the hub"] if hub else [])])


def main(args: Sequence[str]) -> None:
    """The command.

    Raises:
        SystemExit: With one sentence and code 2 if the user has something to mend.
    """
    print(run_command(config, args))
