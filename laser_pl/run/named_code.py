"""Which classes and functions a run's configuration may name when somebody only looks at the run.

Whoever trains with a configuration runs what it names. Whoever looks at a run, or answers with it, runs nothing of it:
classes are ours, torch's or Lightning's, no function is called, code that comes with weights stays where it is, and no
server is asked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings

from laser_pl.borrowed.jsonargparse import parsing_settings
from laser_pl.errors import ConfigurationError
from laser_pl.moved import present_name

KNOWN = ("laser_pl", "torch.nn", "torch.optim", "lightning.pytorch", "lightning.fabric")
"""Where classes may come from: of torch the modules and the optimizers, not what loads or downloads something."""
CONSENT = "--trust_run"
"""What the user says who wants all that a run's configuration names, as ``fit`` would have it."""

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
BESIDE = ("logger", "callbacks", "profiler", "plugins", "default_root_dir")
"""Of a trainer: what writes or watches beside it, wherever its settings say."""
_WRITTEN_TO = ("adapters", "cache")
"""Settings of engines and reward models that name a folder for what they write."""
_WRITTEN = ("metrics.csv", "selection.jsonl", "summary.json", "checkpoints", "rollouts", "adapter")


def is_of_a_run(config: Path, checkpoint: str | None = None) -> bool:
    """Whether a configuration came with a run, rather than from the user's hands.

    Args:
        config: The file.
        checkpoint: The checkpoint that is named beside it, if any.
    """
    folder = config.parent.resolve()  # not the file's own: a link in a run's folder is the run's
    of_checkpoint = (
        checkpoint is not None and folder in list(Path(os.path.expanduser(checkpoint)).resolve().parents)[:2]
    )
    return of_checkpoint or any((folder / name).exists() for name in _WRITTEN)


def without_what_writes(command: str) -> list[str]:
    """Words behind a run's configuration that take back who would write, log or watch beside the command."""
    out = ["--out=null"] if command == "predict" else []
    return [*(f"--trainer.{name}={'false' if name == 'logger' else 'null'}" for name in BESIDE), *out]


def names_in(texts: Iterable[str]) -> set[str]:
    """All that could be the import path of something in what the user wrote."""
    return {name for text in texts for name in _NAME.findall(text)}


def refuse_code(config: Any, whose: str, words: Sequence[str] = (), asks: bool = False) -> None:
    """See that a configuration asks for nothing of its own to run.

    Args:
        config: The configuration, or a part of it.
        whose: Where it lies, for the message.
        words: What the user has written besides; what they name themselves they know.
        asks: Whether its reward models are going to be asked.

    Raises:
        ConfigurationError: If it does.
    """
    named, told = names_in(words), " ".join(words)
    for name, value in each_setting(config):
        setting = name.rpartition(".")[2]
        if setting == "class_path" and isinstance(value, str) and not _is_known(present_name(value), named):
            raise _refused(whose, f"{name} is '{value}', which is neither ours nor torch's nor Lightning's")
        if setting == "function" and value is not None and not _is_named(value, named):
            raise _refused(whose, f"{name} is '{value}', a function that would be called")
        if setting == "trust_remote_code" and value not in (False, None) and setting not in told:
            raise _refused(whose, f"{name} lets code that comes with weights run")
        asked = asks or ".engine." in name  # whatever the command answers with, it is the engine that answers
        if asked and setting == "url" and str(value) not in told:
            raise _refused(whose, f"{name} is '{value}', so prompts and perhaps a key would be sent to a server")
        if asked and setting in _WRITTEN_TO and isinstance(value, str) and value not in told:
            raise _refused(whose, f"{name} is '{value}', which would be written to")


@contextmanager
def nothing_of_its_own(named: Collection[str] = ()) -> Iterator[None]:
    """Let parsers import nothing that a value names unless it is known, or the user has named it.

    Args:
        named: Import paths that the user has named.
    """
    before = {name: parsing_settings[name] for name in ("import_path_verdicts", "import_paths_enforced")}
    allowed = [*KNOWN, *(name for name in named if name.partition(".")[0] != "jsonargparse")]
    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=allowed)
        yield
    finally:
        parsing_settings.update(before)


def _is_known(name: str, named: Collection[str]) -> bool:
    return "." not in name or name in named or any(f"{name}.".startswith(f"{known}.") for known in KNOWN)


def _is_named(function: Any, named: Collection[str]) -> bool:
    """Whether the user has named it: by its import path, or as what the parser has made of that."""
    if isinstance(function, str):
        return function in named
    places = (name.rpartition(".") for name in named)
    return any(getattr(sys.modules.get(module), own, None) is function for module, _, own in places)


def _refused(whose: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{whose}: {what}. A run that is looked at runs nothing of its own. If you trust whoever made it as you trust a"
        f" program, say so by {CONSENT}."
    )


def each_setting(config: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all settings, at every depth."""
    if isinstance(config, dict):
        for key, value in config.items():
            name = f"{above}.{key}".lstrip(".")
            yield name, value
            yield from each_setting(value, name)
    elif isinstance(config, Sequence) and not isinstance(config, str | bytes):
        for number, value in enumerate(config):
            yield from each_setting(value, f"{above}.{number}".lstrip("."))
