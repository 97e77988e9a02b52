"""Train a language model from several reward models; a contextual bandit learns which one to trust where."""

import os
import sys

if sys.argv[:1] == ["-m"] and "fit" not in sys.argv and os.path.exists("config.yaml") and not os.path.exists(__name__):
    # Started in a run's folder, to look at it: what lies there, be it called logging.py, is not imported.
    sys.path[:] = [place for place in sys.path if os.path.realpath(place or ".") != os.path.realpath(".")]

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from laser_pl import moved

if TYPE_CHECKING:
    from laser_pl.batches import LabelledBatch as LabelledBatch
    from laser_pl.batches import Prompt as Prompt
    from laser_pl.batches import PromptBatch as PromptBatch
    from laser_pl.batches import PromptLosses as PromptLosses
    from laser_pl.batches import Responses as Responses
    from laser_pl.batches import RolloutBatch as RolloutBatch
    from laser_pl.commands.cli import main as main
    from laser_pl.selection.selector import Selector as Selector

__version__ = "0.2.0"

moved.install()

# At import it reports that an optional kernel package is missing.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


_FLOW = ("LabelledBatch", "Prompt", "PromptBatch", "PromptLosses", "Responses", "RolloutBatch")
_FOUND_IN = {"main": "commands.cli", "Selector": "selection.selector", **dict.fromkeys(_FLOW, "batches")}


def __getattr__(name: str) -> Any:
    """What Python needs and most commands do not, imported when it is first named."""
    if name in _FOUND_IN:
        return getattr(import_module(f"{__name__}.{_FOUND_IN[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
