"""RESULTS.md has a section for every benchmark, and each script rewrites its own."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent


def parser_of(description: str | None, page: Path = HERE / "RESULTS.md") -> argparse.ArgumentParser:
    """The command line of a benchmark, which has its own options beside ``--results``.

    Args:
        description: The script's docstring.
        page: Where its section is, unless ``--results`` says otherwise.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=page, help="the page with its section")
    return parser


def command_of(name: str, args: Sequence[str] | None, folder: str = "experiments/benchmarks") -> str:
    """What was typed, for a section's first paragraph.

    Args:
        name: Of the script and of its section.
        args: Its command line; None takes the process's own.
        folder: Where it lies.
    """
    return shlex.join(["python", f"{folder}/{name}.py", *(sys.argv[1:] if args is None else args)])


def write_section(path: Path, name: str, text: str, introduction: str = "# Benchmarks\n") -> None:
    """Put a text between ``<!-- name -->`` and ``<!-- /name -->``, or at the end of the file if they are not in it.

    Args:
        path: The page.
        name: Of the section.
        text: Its Markdown.
        introduction: What a new page begins with.
    """
    section = f"<!-- {name} -->\n{text.strip()}\n<!-- /{name} -->\n"
    page = path.read_text(encoding="utf-8") if path.exists() else introduction
    page, found = re.subn(f"<!-- {name} -->\n.*<!-- /{name} -->\n", lambda _: section, page, flags=re.DOTALL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page if found else f"{page}\n{section}", encoding="utf-8")


def tell(path: Path, name: str, text: str) -> None:
    """Write a section, and print it."""
    write_section(path, name, text)
    print(text)
