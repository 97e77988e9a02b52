"""The name that was perhaps meant by one that is not there."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that looks most like a word; None if none does.

    Upper and lower case are not distinguished.

    >>> closest("LinUBC", ["Fixed", "LinUCB", "Thompson"])
    'LinUCB'
    >>> closest("nothing", ["Fixed", "LinUCB", "Thompson"])
    """
    by_lower = {name.lower(): name for name in names}
    found = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def perhaps(name: object | None, otherwise: str = "") -> str:
    """A question that names it, or else other advice; a blank before either.

    >>> perhaps("LinUCB")
    " Did you mean 'LinUCB'?"
    >>> perhaps(None, "Name one of them.")
    ' Name one of them.'
    """
    if name is None:
        return f" {otherwise}" if otherwise else ""
    return f" Did you mean '{name}'?"


def closest_path(path: Path) -> Path | None:
    """The path that looks most like one that does not exist, folder by folder; None if nothing there does."""
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        try:
            there = (found / part).exists()
            name = part if there else closest(part, (entry.name for entry in found.iterdir()))
        except OSError:  # no folder, none that can be read, or no name that a file can have
            return None
        if name is None:
            return None
        part = name
        found /= part
    return found


def closest_setting(name: str, settings: Iterable[str]) -> str | None:
    """The dotted name that looks most like one that is not there, part by part; None if nothing does.

    What is written below a setting that has no parts of its own is kept. Where a section is left out, the one setting
    with such a last part is meant; of several the one that stands highest.

    >>> closest_setting("selektion.bandti.alpha", ["model.beta", "selection.bandit", "selection.pairs"])
    'selection.bandit.alpha'
    >>> closest_setting("beta", ["model.beta", "model.objective.beta", "selection.bandit"])
    'model.beta'
    """
    known = {tuple(setting.split(".")) for setting in settings}
    meant: tuple[str, ...] = ()
    wanted = name.split(".")
    for depth, part in enumerate(wanted):
        below = {one[depth] for one in known if one[:depth] == meant and len(one) > depth}
        if not below:
            return ".".join((*meant, *wanted[depth:]))
        found = part if part in below else closest(part, below)
        if found is None:
            break
        meant += (found,)
    else:
        return ".".join(meant)
    same = [one for one in known if one[-1] == wanted[-1]]
    highest = [one for one in same if len(one) == min(map(len, same))]
    return ".".join(highest[0]) if len(highest) == 1 else None
