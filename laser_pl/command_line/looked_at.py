"""Runs that a command looks at, or answers with, by their own configuration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from laser_pl.command_line.commands import LIGHTNING
from laser_pl.command_line.config_files import config_in, configs_of, cut_short, value_in
from laser_pl.run import named_code
from laser_pl.run.folder import RunFolder
from laser_pl.run.plain_yaml import load_yaml


@dataclass(frozen=True)
class LookedAt:
    """What of a command line is a run's, and what is the user's.

    Attributes:
        command: ``predict``, ``test`` or ``validate``.
        configs: Configurations that came with a run.
        words: All else that the user gave.
    """

    command: str
    configs: Sequence[Path]
    words: Sequence[str]

    @classmethod
    def by(cls, args: Sequence[str]) -> LookedAt | None:
        """Nothing is looked at where a run is made, nor where the user trusts it.

        Raises:
            ConfigurationError: If a run's configuration names code of its own.
        """
        command = next((word for word in args if word in LIGHTNING), "fit")
        if command == "fit" or any(word.partition("=")[0] == named_code.CONSENT for word in args):
            return None
        files = [Path(word) for word in configs_of(args) if _is_file(word)]
        checkpoints = _checkpoints(args, files)
        of_a_run = [path for path in files if any(named_code.is_of_a_run(path, one) for one in [None, *checkpoints])]
        if not of_a_run:
            return None
        words = [
            word
            for before, word in zip(["", *args], args, strict=False)
            if not _is_among(of_a_run, config_in(before, word))
        ]
        for path in files:
            if path not in of_a_run:
                with suppress(OSError, UnicodeDecodeError):  # reported by whoever reads it next
                    words.append(path.read_text(encoding="utf-8"))
        found = cls(command, of_a_run, words)
        for path in of_a_run:
            folder = RunFolder(path.parent)
            folder.config = path
            folder.refuse_links()
            found.refuse_code(folder.read_config())
        return found

    @property
    def named(self) -> Collection[str]:
        """Import paths in what the user gave."""
        return named_code.names_in(self.words)

    def refuse_code(self, config: dict[str, Any]) -> None:
        """See that a configuration asks for no code, except in the user's own words.

        Args:
            config: That of a run, or all settings of the command.

        Raises:
            ConfigurationError: If it does.
        """
        asks = self.command == "predict"
        named_code.refuse_code(config, str(self.configs[0]), self.words, asks)

    def without_what_writes(self, args: Sequence[str]) -> list[str]:
        """The command line, on which a run's own configuration says nothing of who writes beside the command."""
        found: list[str] = []
        for before, word in zip(["", *args], args, strict=False):
            found.append(word)
            if _is_among(self.configs, config_in(before, word)):
                found += named_code.without_what_writes(self.command)
        return found


def _is_among(configs: Sequence[Path], word: str | None) -> bool:
    return word is not None and Path(word) in configs


_CKPT_PATH = cut_short("--ckpt_path", "--ck")


def _checkpoints(args: Sequence[str], configs: Sequence[Path]) -> list[str]:
    """What a command line and its configurations name as the checkpoint."""
    found: list[Any] = [value_in(*words, _CKPT_PATH) for words in zip(["", *args], args, strict=False)]
    for path in configs:
        with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):  # reported by whoever reads it next
            config = load_yaml(path.read_text(encoding="utf-8"))
            found.append(config.get("ckpt_path") if isinstance(config, dict) else None)
    return [one for one in found if isinstance(one, str) and "\0" not in one]  # which is in no path


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # a configuration itself, in place of its path
        return False
