"""The tutorial's notebook, made of its page, and the page's outputs, made by running it.

``laser_pl/docs/pages/tutorial.md`` is written by hand but for what its commands print. A block of commands or of Python
with a block ``text`` behind it is a cell, and so is a file that has a title; the rest is prose.

Run:    python experiments/tutorial.py          # experiments/tutorial.ipynb from the page
        python experiments/tutorial.py --run    # and before that, run every cell and put into the page what it prints
Cost:   nothing; with --run a minute of one CPU core.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "laser_pl/docs/pages/tutorial.md"
NOTEBOOK = ROOT / "experiments/tutorial.ipynb"
LINES = r"((?:(?!```).*\n)*)```"
CELL = re.compile(rf'^```(sh|python)\n{LINES}\n\n```text\n{LINES}$|^```yaml title="(.+?)"\n{LINES}$', re.MULTILINE)
HEAD = """import os

os.environ |= {"TERM": "dumb", "COLUMNS": "80"}  # lines, not a view that is drawn again and again
if os.path.basename(os.getcwd()) == "experiments":
    os.chdir("..")  # paths start at the repository's root
"""


@dataclass(frozen=True)
class Cell:
    """A part of the page.

    Attributes:
        kind: ``prose``, ``sh``, ``python`` or ``file``.
        source: Its text.
        output: What it prints, as the page has it.
    """

    kind: str
    source: str
    output: str = ""


def cells_of(page: str) -> Iterator[Cell]:
    """The page's parts, in order."""
    end = 0
    for found in CELL.finditer(page):
        if prose := page[end : found.start()].strip():
            yield Cell("prose", prose)
        kind, source, output, title, content = found.groups()
        yield Cell("file", f"%%writefile {title}\n{content}") if title else Cell(kind, source, output)
        end = found.end()
    if prose := page[end:].strip():
        yield Cell("prose", prose)


def notebook(cells: Sequence[Cell]) -> dict[str, Any]:
    """The page as Jupyter's format 4.5 has it: commands behind ``!``, and what they print as it stands on the page."""
    made = [Cell("python", HEAD), *cells]
    return {
        "cells": [_notebook_cell(cell, number) for number, cell in enumerate(made)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _notebook_cell(cell: Cell, number: int) -> dict[str, Any]:
    if cell.kind == "prose":
        text = re.sub(r"\]\((\w[\w-]*)\.md(#[\w-]+)?\)", r"](../laser_pl/docs/pages/\1.md\2)", cell.source)
        return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": _lines(text)}
    source = re.sub(r"^(?=python )", "!", cell.source, flags=re.M) if cell.kind == "sh" else cell.source
    printed = [{"name": "stdout", "output_type": "stream", "text": _lines(cell.output)}] if cell.output else []
    return {"cell_type": "code", "execution_count": None, "id": f"cell-{number}", "metadata": {},
            "outputs": printed, "source": _lines(source.rstrip("\n"))}  # fmt: skip


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


# -- running it --------------------------------------------------------------------------------------------------------


def run(made: dict[str, Any], folder: Path) -> list[str]:
    """Run a notebook's code cells, and give what each prints.

    In this process: a kernel would start another one for each command, and spend most of the time importing. Commands
    are ``python -m laser_pl``, perhaps cut by ``head``, and what is written behind ``%%writefile`` is a file.

    Args:
        made: The notebook.
        folder: Where it is run; a link there leads to the experiments.
    """
    (folder / "experiments").symlink_to(ROOT / "experiments")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, {"COLUMNS": "80"}):
            for cell in made["cells"]:
                if cell["cell_type"] == "code":
                    with redirect_stdout(StringIO()) as out:
                        _run_cell("".join(cell["source"]), namespace)
                    printed.append(out.getvalue())
    finally:
        os.chdir(before)
    return printed


def _run_cell(source: str, namespace: dict[str, Any]) -> None:
    if source.startswith("%%writefile "):
        name, content = source.removeprefix("%%writefile ").split("\n", 1)
        Path(name).write_text(content + "\n", encoding="utf-8")
    elif source.startswith("!"):
        for line in source.replace("\\\n", " ").splitlines():
            command, _, cut = line.removeprefix("!python -m laser_pl ").partition(" | head -n ")
            print("\n".join(_command(shlex.split(command)).splitlines()[: int(cut) if cut else None]))
    else:
        exec(compile(source, "cell", "exec"), namespace)


def _command(words: list[str]) -> str:
    from laser_pl.__main__ import run as laser_pl

    with (
        redirect_stdout(StringIO()) as out,
        mock.patch.object(sys, "argv", ["laser_pl", *words]),
        mock.patch.object(sys, "path", [*sys.path]),
        mock.patch.object(sys, "excepthook", sys.excepthook),
        mock.patch.object(sys, "stderr", sys.stderr),
    ):
        laser_pl()
    return out.getvalue()


def elided(text: str) -> str:
    r"""What is printed, without what the machine alone decides: times, and free memory.

    >>> elided("Time: 7.8 s (rollouts 1.6 s, other\n3.1 s)")
    'Time: … s (rollouts … s, other … s)'
    >>> elided("│ free now  │  20.9 GiB │")
    '│ free now  │         … │'
    >>> elided("│ random │   1.04x │    1.37x │")
    '│ random │       … │    1.37x │'
    """

    def blank(found: re.Match[str]) -> str:
        return "…".rjust(len(found[0]))

    text = re.sub(r"^(?:Time|Reward-model forwards): [^)]*\)", lambda one: " ".join(one[0].split()), text, flags=re.M)
    text = re.sub(r"\b\d+\.\d s\b", "… s", text)
    text = re.sub(r"(?<=│ free now )( *│ +)\S+ \S+", lambda one: one[1] + "…".rjust(len(one[0]) - len(one[1])), text)
    text = re.sub(r"\d+\.\d\dx(?= │ +\d+\.\d\dx │)", blank, text)  # seconds; the forwards behind them stay
    return "\n".join(line.rstrip() for line in text.split("\n"))


def with_outputs(page: str, printed: Sequence[str]) -> str:
    """The page, with what its cells print now in the place of what they printed before."""
    new = iter(printed)

    def again(found: re.Match[str]) -> str:
        output = elided(next(new))
        if found[4]:
            return found[0]
        return f"```{found[1]}\n{found[2]}```\n\n```text\n{output.strip(chr(10))}\n```"

    return CELL.sub(again, page)


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description="Make the tutorial's notebook of its page.")
    parser.add_argument("--run", action="store_true", help="Run all first, and put what is printed into the page.")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    if options.run:
        with tempfile.TemporaryDirectory() as folder:
            printed = run(notebook(list(cells_of(page))), Path(folder))
        page = with_outputs(page, printed[1:])  # the first cell is the notebook's own
        PAGE.write_text(page, encoding="utf-8")
    made = json.dumps(notebook(list(cells_of(page))), indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(made + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
