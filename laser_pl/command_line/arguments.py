"""Command lines of the commands that need no Lightning."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import masked
from laser_pl.messages.suggestions import closest, perhaps
from laser_pl.messages.terminal import shown

T = TypeVar("T")


class Arguments(argparse.ArgumentParser):
    """Raises what is wrong with a command line, where argparse prints usage and exits.

    Args:
        command: ``compare``, for example.
        description: What it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"python -m laser_pl {command}", description=description)
        self.command = command
        self.register("type", Path, lambda given: Path(given).expanduser())  # `--out=~/x`, which no shell expands

    def add_consent(self) -> None:
        """The option by which the user lets a run's own code run."""
        self.add_argument("--trust_run", "--trust-run", action="store_true",
                          help="Let the code run that the run's configuration names, as in training. Only if you trust"
                          " whoever made it as you trust a program.")  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """Print.

        Raises:
            ConfigurationError: Always.
        """
        meant = None
        if found := re.search(r"unrecognized arguments: (-[^\s=]+)", message):
            meant = closest(found[1], self._option_string_actions)
        elif found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            meant = closest(found[1], found[2].replace("'", "").split(", "))
        raise ConfigurationError(f"{self.command}: {message}.{perhaps(meant, f'See {self.prog} --help.')}")


def run_command(command: Callable[[Sequence[str]], T], args: Sequence[str]) -> T:
    """Run a command.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    try:
        return command(args)
    except ConfigurationError as error:
        print(f"laser_pl: {shown(masked(str(error)))}", file=sys.stderr)
        raise SystemExit(2) from error
