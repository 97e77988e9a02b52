"""Old names of modules that have moved, which can be imported for one release more, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ROOMS = {
    "commands": ("before_start", "cli", "compare", "explain", "export", "monitored", "planned_steps", "push",
                 "trainer_settings"),
    "messages": ("keys", "percentages", "places", "suggestions", "terminal"),
    "models": ("causality", "language_model", "saved_quantized"),
    "policy": ("evaluation",),
    "report": ("predictions",),
    "run": ("bounds",),
    "runtime": ("interruption", "noise", "processes", "progress", "ranks", "seeds"),
}  # fmt: skip
"""Where modules that lay loose are now."""

MOVED = {f"laser_pl.{name}": f"laser_pl.{room}.{name}" for room, names in ROOMS.items() for name in names} | {
    "laser_pl.agreement_probe": "laser_pl.selection.agreement",
    "laser_pl.judging": "laser_pl.selection.fallback",
    "laser_pl.losses": "laser_pl.objectives",
    "laser_pl.run.decision": "laser_pl.selection.decision",
    "laser_pl.training.dpo_step": "laser_pl.training.pair_step",
}


class OldNames(MetaPathFinder, Loader):
    """Finds a module by its old name, as a copy of the names in the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``MetaPathFinder``."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """See ``Loader``."""
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is {new} now; the old name goes with the next release.", FutureWarning, 2)
        vars(module).update({name: value for name, value in vars(import_module(new)).items() if name[:2] != "__"})


def install() -> None:
    """Ask here for names that nobody else finds."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
