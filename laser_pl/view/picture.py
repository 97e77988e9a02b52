"""A run's progress as a picture of text: a pure function of its state, the time and the room there is."""

from __future__ import annotations

from itertools import islice

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from laser_pl.messages.percentages import percentages
from laser_pl.messages.terminal import shown
from laser_pl.runtime.progress import Task
from laser_pl.view.state import State
from laser_pl.view.words import clock, decision_in_words, how_far, place

WIDEST = 100
"""Columns at most."""
ROOM_FOR_LABELS = 60
"""Columns; with fewer there are no labels and no bars."""
LONG_ENOUGH = 1.0
"""Seconds that a task within another has to last before it is shown; most are over sooner, and would flicker."""


def picture(state: State, now: float, width: int, height: int) -> RenderableType:
    """Draw it.

    What a bar says is also said in numbers beside it, and no colour means anything by itself.

    Args:
        state: The run at this moment.
        now: In seconds of ``time.monotonic``.
        width: Columns of the terminal.
        height: Its lines; arms that find no room are counted.
    """
    roomy = width >= ROOM_FOR_LABELS
    rows: list[tuple[str, RenderableType]] = [("run", _head(state, now))]
    for depth, task in enumerate(state.tasks):
        if depth == 0 or now - task.began >= LONG_ENOUGH:
            rows += _task(task, now, bar=roomy and depth == 0)
    if state.mean_loss is not None:
        last = "" if state.loss is None else f"{state.loss:.3f}, "
        rows.append(("loss", _line(f"{last}mean of the iteration {state.mean_loss:.3f}")))
    if state.accuracy:
        rows.append(("accuracy", _line(_accuracies(state))))
    last_rows: list[tuple[str, RenderableType]] = []
    if state.decision is not None:
        last_rows.append(("last choice", Text(decision_in_words(state.decision), overflow="fold")))
    # The last choice may take three lines, and the cursor stands below the picture.
    arms = _arms(state, roomy, room=height - len(rows) - 4)
    if arms is not None:
        rows.append(("scored by", arms))
    return _with_labels(rows + last_rows, min(width, WIDEST) if roomy else None)


def _with_labels(rows: list[tuple[str, RenderableType]], width: int | None) -> RenderableType:
    if width is None:
        return Group(*(_labelled(label, row) for label, row in rows))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.width = width
    grid.add_column(width=11, no_wrap=True, style="dim")
    grid.add_column(ratio=1)
    for label, row in rows:
        grid.add_row(label, row)
    return grid


def _labelled(label: str, row: RenderableType) -> RenderableType:
    if not label or not isinstance(row, Text):
        return row
    return Text(f"{label} ", overflow=row.overflow, no_wrap=row.no_wrap).append_text(row)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, overflow="ellipsis", no_wrap=True)


def _head(state: State, now: float) -> Text:
    step = f"step {state.step}" if state.step else ""
    parts = [shown(state.name), place(state), step, clock(now - state.began)]
    return _line("   ".join(part for part in parts if part), "bold")


def _task(task: Task, now: float, bar: bool) -> list[tuple[str, RenderableType]]:
    label, far = shown(task.what), _line(how_far(task, now))
    if not bar or task.total is None:
        far = _line(f"{label}: {far.plain}")
        return [("", far)]
    done = _Bar(task.done / max(task.total, 1), "cyan", rest=True)
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_row(done, far)
    return [(label, grid)]


def _accuracies(state: State) -> str:
    """All that was measured; of a long row its last five."""
    parts = []
    for on, values in state.accuracy.items():
        missing = "... " if len(values) > 5 else ""
        parts.append(f"{on} {missing}{' '.join(f'{value:.3f}' for value in values[-5:])}")
    return ", ".join(parts)


def _arms(state: State, roomy: bool, room: int) -> RenderableType | None:
    """A bar for each arm, the largest share first."""
    shares = state.shares
    if not shares:
        return None
    per_cent = percentages(shares)
    if not roomy:
        return _line(", ".join(f"{shown(arm)} {per_cent.get(arm, 0)}%" for arm in shares))
    count = len(shares) if len(shares) <= max(room, 1) else max(room - 1, 1)
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(max_width=24, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=4, justify="right")
    grid.add_column(ratio=1)
    for arm, share in islice(shares.items(), count):
        grid.add_row(Text(shown(arm)), f"{per_cent.get(arm, 0)}%", _Bar(share, "yellow"))
    if count < len(shares):
        rest = sum(per_cent.get(arm, 0) for arm in islice(shares, count, None))
        grid.add_row(_line(f"and {len(shares) - count} more"), f"{rest}%")
    return grid


class _Bar:
    """A thick line as long as a share of the room, and a thin one for the rest: to be distinguished without colours.

    Args:
        share: From 0 to 1; more is 1.
        colour: The thick line's.
        rest: Whether there is a thin one.
    """

    def __init__(self, share: float, colour: str, rest: bool = False) -> None:
        self.share = min(share, 1.0)
        self.colour = colour
        self.rest = rest

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        thick, thin = ("=", "-") if options.ascii_only else ("━", "─")
        length = round(self.share * options.max_width)
        yield Segment(thick * length, Style(color=self.colour))
        yield Segment((thin if self.rest else " ") * (options.max_width - length), Style(dim=True))
