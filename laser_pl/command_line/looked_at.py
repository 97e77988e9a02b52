"""Runs that a command looks at, or answers with, by their own configuration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laser_pl.command_line.config_files import configs_of
from laser_pl.run import named_code
from laser_pl.run.folder import RunFolder


@dataclass(frozen=True)
class LookedAt:
    """What of a command line is a run's, and what is the user's.

    Attributes:
        configs: Configurations that came with a run.
        words: All else that the user gave.
        named: Import paths in that.
    """

    configs: Sequence[Path]
    words: Sequence[str]
    named: Collection[str]

    @classmethod
    def by(cls, args: Sequence[str]) -> LookedAt | None:
        """Nothing is looked at where a run is made, nor where the user trusts it.

        Raises:
            ConfigurationError: If a run's configuration names code of its own.
        """
        if "fit" in args or any(word.partition("=")[0] == named_code.CONSENT for word in args):
            return None
        checkpoint = _value_of("--ckpt_path", args)
        files = [Path(word) for word in configs_of(args) if _is_file(word)]
        of_a_run = [path for path in files if named_code.is_of_a_run(path, checkpoint)]
        if not of_a_run:
            return None
        words = [word for word in args if word.removeprefix("--config=") not in set(map(str, of_a_run))]
        for path in files:
            if path not in of_a_run:
                with suppress(OSError, UnicodeDecodeError):  # told by whoever reads it next
                    words.append(path.read_text(encoding="utf-8"))
        found = cls(of_a_run, words, named_code.names_in(words))
        for path in of_a_run:
            folder = RunFolder(path.parent)
            folder.config = path
            folder.refuse_links()
            named_code.refuse_code(folder.read_config(), str(path), found.named)
        return found

    def refuse_code(self, config: dict[str, Any], asks: bool) -> None:
        """See that the whole configuration asks for no code either, except in the user's own words.

        Args:
            config: All settings of the command.
            asks: Whether reward models are going to be asked.

        Raises:
            ConfigurationError: If it does.
        """
        told = " ".join(self.words)
        if "trust_remote_code" not in told and "RemoteReward" not in told:
            named_code.refuse_code(config, str(self.configs[0]), self.named, asks)


def _value_of(option: str, args: Sequence[str]) -> str | None:
    for before, word in zip(["", *args], args, strict=False):
        if before == option or word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # a configuration itself, in place of its path
        return False
