"""Lines that cost much to make, kept in a file as they are made, so that none is made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.messages.terminal import as_markup
from laser_pl.run.files import append_lines, entered, read_text, write_whole

Line = dict[str, Any]


def digest_of(value: Any) -> str:
    """A short name of what lines depend on; with anything else in it, it is another name and another file.

    >>> digest_of({"seed": 0}) == digest_of({"seed": 0}), digest_of({"seed": 0}) == digest_of({"seed": 1})
    (True, False)
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def cached_lines(
    path: Path,
    batches: Sequence[Sequence[Prompt]],
    make: Callable[[int, Sequence[Prompt]], tuple[list[Line], bool]],
    title: str,
    within: Path | None = None,
) -> list[Line]:
    """A line for each prompt, from the file where it holds the prompt's whole batch, otherwise made and written there.

    Args:
        path: A JSONL file, made if it is not there.
        batches: Prompts that are dealt with together.
        make: From a batch's number and its prompts to their lines, and whether these are worth keeping.
        title: Of the progress bar.
        within: The run's folder that the file lies in, if any: no link in it is followed.

    Returns:
        In the order of the prompts.

    Raises:
        ConfigurationError: If the file cannot be read or written.
    """
    with _telling(path), entered(path.parent, within, make=True):
        known = lines_by_prompt(path, within)
    console = Console(stderr=True)
    console.quiet = not console.is_terminal  # rich before 15 ends a bar that is off with an empty line
    with Progress(console=console, transient=True, disable=console.quiet) as bar:
        task = bar.add_task(as_markup(title), total=sum(map(len, batches)))
        for number, prompts in enumerate(batches):
            if not all(prompt.id in known for prompt in prompts):
                lines, worth_keeping = make(number, prompts)
                if worth_keeping:
                    with _telling(path):
                        append_lines(path, lines, within)
                known |= {line["prompt_id"]: line for line in lines}
            bar.advance(task, len(prompts))
    return [known[prompt.id] for prompts in batches for prompt in prompts]


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"'{path}' cannot be read or written: {error.strerror}. Nothing is lost that stands in it; make room, or"
            " give its folder the right to be written."
        ) from error


def lines_by_prompt(path: Path, within: Path | None = None) -> dict[str, Line]:
    """What an earlier command wrote, but for a line that was torn, which is taken out of the file."""
    if not path.exists():
        return {}
    found: dict[str, Line] = {}
    texts = read_text(path, within, errors="replace").splitlines(keepends=True)
    whole = []
    for text in texts:
        try:
            line = json.loads(text) if text.endswith("\n") else None
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and isinstance(line.get("prompt_id"), str):
            found[line["prompt_id"]] = line
            whole.append(text)
    if len(whole) < len(texts):
        write_whole(path, "".join(whole), within)
    return found
