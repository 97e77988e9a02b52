"""The command that goes on with a run that was broken off."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from laser_pl.command_line.commands import LIGHTNING
from laser_pl.messages.places import briefly


def how_to_go_on(given: Sequence[str], run: Path | None) -> str:
    """How to go on with what was interrupted, as a sentence with a space before it; nothing where there is no way.

    Args:
        given: The words of the command line.
        run: The run's folder, once there is one.
    """
    command = next((word for word in given if word in LIGHTNING), None)
    if command == "predict":
        return " What was predicted is kept: the same command goes on."
    if command != "fit" or run is None:
        return ""
    words: list[str] = []
    for before, word in zip(["", *given], given, strict=False):
        of_resume = before == "--resume" and not word.startswith("-")
        if not of_resume and word != "--resume" and not word.startswith("--resume="):
            words.append(word)
    # By its folder, since others may have its name.
    return f" Go on with: {shlex.join(['python', '-m', 'laser_pl', *words, '--resume', briefly(run)])}"
