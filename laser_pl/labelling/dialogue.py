"""Asking on a terminal, one prompt after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console

from laser_pl.batches import question_of
from laser_pl.data.labels import UNTOLD
from laser_pl.labelling.questions import Line
from laser_pl.messages.terminal import as_markup

HOW = (
    "Which are better? Their numbers (such as 1 3), or = and the right answer, or both, neither, skip. Nothing: stop"
    " here."
)


def said(text: str, count: int) -> Line | None:
    """What a person's line fills in; None if it cannot be understood.

    Args:
        text: What was typed.
        count: How many responses are shown.

    >>> said("1 3", 4), said("= 42", 4), said("both", 4), said("5", 4)
    ({'better': [1, 3]}, {'answer': '42'}, {'better': 'both'}, None)
    """
    text = text.strip()
    if text.startswith("="):
        return {"answer": text[1:].strip()} if text[1:].strip() else None
    if text.lower() in UNTOLD:
        return {"better": text.lower()}
    words = text.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() and 1 <= int(word) <= count for word in words):
        return None
    return {"better": sorted({int(word) for word in words})}


def is_open(line: Line) -> bool:
    """Whether nobody has said anything yet."""
    return line.get("better") is None and line.get("answer") is None and "chosen" not in line


def ask(lines: Sequence[Line], console: Console, read: Callable[[str], str] = input) -> Iterator[Line]:
    """Ask about every open line, until the person stops.

    Args:
        lines: Of a labels file; they are filled in.
        console: Where to print.
        read: Reads a line from the person; its end, or an interrupt, stops as well.

    Yields:
        Each line that was filled in.
    """
    waiting = [line for line in lines if is_open(line)]
    if waiting:
        console.print(HOW)
    for number, line in enumerate(waiting, 1):
        console.rule(as_markup(f"{number} of {len(waiting)}: {line.get('category') or 'all'}"), style="dim")
        console.print(as_markup(question_of(line["prompt"])), style="bold")
        for place, response in enumerate(line["responses"], 1):
            console.print(f" {place}  ", as_markup(response), sep="")
        answer: Line | None = None
        while answer is None:
            try:
                text = read("> ")
                text.encode()
            except (EOFError, KeyboardInterrupt):
                return
            except UnicodeError:
                console.print("This terminal does not send UTF-8: that line cannot be read.", style="yellow")
                continue
            if not text.strip():
                return
            answer = said(text, len(line["responses"]))
            if answer is None:
                console.print(as_markup(f"'{text.strip()}' cannot be understood. {HOW}"), style="yellow")
        line.update(answer)
        yield line
