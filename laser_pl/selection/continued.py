"""Going on from what an earlier run learned: with the same parts, and arms known by their names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from laser_pl.errors import ConfigurationError

log = logging.getLogger(__name__)


def in_new_words(state: Mapping[str, Any]) -> dict[str, Any]:
    """A selection's state with the names of now: the normalizer was its ``scale``, for one release more.

    >>> in_new_words({"parts": {"scale": "Raw"}, "scale": {}})
    {'parts': {'normalizer': 'Raw'}, 'normalizer': {}}
    """

    def new(names: Mapping[str, Any]) -> dict[str, Any]:
        return {"normalizer" if name == "scale" else name: value for name, value in names.items()}

    return {**new(state), "parts": new(state["parts"])} if "parts" in state else dict(state)


def refuse_other_parts(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """See that the parts that learn are those of the checkpoint.

    Args:
        before: The class of each part, by its setting, as the checkpoint has it.
        now: As it is configured.

    Raises:
        ConfigurationError: If they are not.
    """
    for name, part in now.items():
        if before[name] != part:
            raise ConfigurationError(
                f"The checkpoint's {name} is {before[name]}, and selection.{name} is {part} now. Go on with"
                f" {before[name]}, or start a new run."
            )


def changes_of_arms(before: Sequence[str], now: Sequence[str], step: int) -> list[dict[str, Any]]:
    """What became of the arms, if anything, for ``summary.json``: the step, who came and who went.

    >>> changes_of_arms(["a", "b"], ["b", "c"], step=7)
    [{'step': 7, 'added': ['c'], 'removed': ['a']}]
    """
    added = [name for name in now if name not in before]
    removed = [name for name in before if name not in now]
    if not added and not removed:
        return []
    log.info("Arms that start fresh: %s. Arms that are gone: %s. The bandit keeps what it knew of the others.",
             ", ".join(added) or "none", ", ".join(removed) or "none")  # fmt: skip
    return [{"step": step, "added": added, "removed": removed}]
