"""Train a language model from several reward models; a contextual bandit learns which one to trust where."""

import os
import sys

if sys.argv[:1] == ["-m"] and "fit" not in sys.argv and os.path.exists("config.yaml") and not os.path.exists(__name__):
    # Started in a run's folder, to look at it: what lies there, be it called logging.py, is not imported.
    sys.path[:] = [place for place in sys.path if os.path.realpath(place or ".") != os.path.realpath(".")]

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laser_pl.selection.selector import Selector as Selector

__version__ = "0.1.0"

# At import it reports that an optional kernel package is missing.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    """What Python needs and most commands do not, imported when it is first named."""
    if name == "Selector":
        from laser_pl.selection.selector import Selector

        return Selector
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
