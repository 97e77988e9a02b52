"""Old names of modules that have moved, which can be imported for one release more, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROOMS = {
    "commands": ("before_start", "cli", "compare", "explain", "export", "monitored", "planned_steps",
                 "trainer_settings"),
    "messages": ("keys", "percentages", "places", "suggestions", "terminal"),
    "models": ("causality", "language_model", "saved_quantized"),
    "policy": ("evaluation",),
    "report": ("predictions",),
    "run": ("bounds",),
    "runtime": ("interruption", "noise", "processes", "progress", "seeds"),
}  # fmt: skip
"""Where modules that lay loose are now."""

CALLBACKS = "callbacks"
"""The package that was installed beside ours, under a name that is a user's. One that a user has is found before it."""
OUR_CALLBACKS = {"best_of_n": "BestOfN", "judged_sample": "JudgedSample", "live_view": "LiveView",
                 "reward_selection": "RewardSelection", "run_checkpoint": "RunCheckpoint",
                 "run_record": "RunRecord"}  # fmt: skip
"""Its modules, with the class that each holds."""

MOVED = {f"laser_pl.{name}": f"laser_pl.{room}.{name}" for room, names in ROOMS.items() for name in names} | {
    "laser_pl.agreement_probe": "laser_pl.selection.agreement",
    "laser_pl.feedback.instruments": "laser_pl.feedback.queries",
    "laser_pl.feedback.scales": "laser_pl.feedback.normalizers",
    "laser_pl.judging": "laser_pl.selection.fallback",
    "laser_pl.losses": "laser_pl.objectives",
    "laser_pl.ranks": "laser_pl.runtime.process_group",
    "laser_pl.reading": "laser_pl.logprobs",
    "laser_pl.reading.common_start": "laser_pl.logprobs.shared_prefix",
    "laser_pl.reading.groups": "laser_pl.logprobs.micro_batches",
    "laser_pl.reading.logprobs": "laser_pl.logprobs.padded",
    "laser_pl.reading.reader": "laser_pl.logprobs.logprob_model",
    "laser_pl.reading.shared_prompt": "laser_pl.logprobs.packed",
    "laser_pl.run.decision": "laser_pl.selection.decision",
    "laser_pl.run.kept_lines": "laser_pl.run.line_cache",
    "laser_pl.runtime.ranks": "laser_pl.runtime.process_group",
    "laser_pl.training.dpo_step": "laser_pl.training.pair_step",
    CALLBACKS: "laser_pl.callbacks",
    **{f"{CALLBACKS}.{name}": f"laser_pl.callbacks.{name}" for name in OUR_CALLBACKS},
}
_CLASSES = {
    "callbacks.RewardSelection": "laser_pl.callbacks.RewardSelection",
    **{f"{CALLBACKS}.{name}.{cls}": f"laser_pl.callbacks.{name}.{cls}" for name, cls in OUR_CALLBACKS.items()},
}
"""Class paths that configurations may hold, and that would be looked for in a user's own package."""


RENAMED = {
    "Instruments": "Queries",
    "Ranks": "ProcessGroup",
    "Reading": "ResponseBatch",
    "ResponseReader": "LogprobModel",
    "Scale": "RewardNormalizer",
    "common_start": "shared_prefix",
    "kept_lines": "cached_lines",
    "token_groups": "micro_batches",
}
"""Old names of classes and functions, in modules of old names."""


def new_name(old: str) -> str:
    """Where a module of an old name is; empty if it is none."""
    room, _, name = old.rpartition(".")
    return MOVED.get(old) or (f"laser_pl.logprobs.{name}" if room == "laser_pl.reading" else "")


class OldNames(MetaPathFinder, Loader):
    """Finds a module by its old name, as a copy of the names in the new one.

    Args:
        of: How the names begin that it finds.
    """

    def __init__(self, of: str) -> None:
        self.of = of

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``MetaPathFinder``."""
        if not fullname.startswith(self.of) or not new_name(fullname):
            return None
        if fullname.startswith(f"{CALLBACKS}.") and path:  # within a package of the user's
            return None
        return ModuleSpec(fullname, self, is_package=fullname in (CALLBACKS, "laser_pl.reading"))

    def exec_module(self, module: ModuleType) -> None:
        """See ``Loader``."""
        warn(module.__name__, 3)
        new = import_module(new_name(module.__name__))
        names = {name: value for name, value in vars(new).items() if name[:2] != "__"}
        vars(module).update(names, **{old: names[now] for old, now in RENAMED.items() if now in names})


def former_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module in which some things have other names now.

    Args:
        module: Its name.
        names: Old name to new one.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        renamed(f"{module}.{name}", names[name])
        return getattr(sys.modules[module], names[name])

    return find


def warn(old: str, level: int = 2) -> None:
    """Say what an old name is now."""
    new = _CLASSES.get(old) or new_name(old)
    renamed(old, new, level + 1)


def renamed(old: str, new: str, level: int = 3) -> None:
    """Warn whoever uses a name of the release before.

    Args:
        old: That name.
        new: What it is now.
        level: Whose line is shown: 2 is the caller's, 3 that of the caller's caller.
    """
    warnings.warn(f"{old} is {new} now; the old name goes with the next release.", FutureWarning, stacklevel=level)


def present_name(text: str) -> str:
    """What a text of a configuration names now, if it is the old import path of a class.

    >>> present_name("callbacks.mine.Bell"), present_name("laser_pl.callbacks.RewardSelection")
    ('callbacks.mine.Bell', 'laser_pl.callbacks.RewardSelection')
    """
    return _CLASSES.get(text, text)


def install() -> None:
    """Ask here first for our own names, since an old folder may lie there yet, and last for others."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldNames("laser_pl."))
        sys.meta_path.append(OldNames(CALLBACKS))
