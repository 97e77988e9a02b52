"""``python -m laser_pl completion``: what makes a shell complete commands, settings, classes and files.

The script names everything itself, so that pressing Tab starts no Python.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shtab
from jsonargparse import ArgumentParser, capture_parser

from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.command_line.commands import OTHERS
from laser_pl.command_line.known_classes import known_classes

_PATHS = {"data.train", "data.validation", "data.test", "model.weights.name", "ckpt_path", "runs_dir"}
"""Settings that are texts to jsonargparse."""


def arguments() -> Arguments:
    """The command line."""
    parser = Arguments("completion", OTHERS["completion"][1])
    parser.add_argument("shell", choices=["bash", "zsh"], help="The shell.")
    return parser


def script(shell: str) -> str:
    """What a shell reads to complete the command ``laser_pl``.

    Args:
        shell: ``bash`` or ``zsh``.
    """
    parser = _whole_parser()
    commands: Any = parser._subcommands_action
    for command in commands._name_parser_map.values():
        for action in command._actions:
            _complete_setting(action)
    for name, (module, summary) in OTHERS.items():
        commands._name_parser_map[name] = _parser_of(name, module, f"{parser.prog} {name}")
        commands._choices_actions.append(commands._ChoicesPseudoAction(name, (), summary))
    return parser.get_completion_script(f"shtab-{shell}")


def _complete_setting(action: Any) -> None:
    """Say what jsonargparse does not see, and leave out what is a megabyte: all settings of torch's and Lightning's."""
    if action.dest in _PATHS:
        action.complete = shtab.FILE
    elif action.dest.partition(".")[0] in {"trainer", "optimizer", "lr_scheduler"} and known_classes(action):
        action.choices = [path for path in known_classes(action) if path.startswith(("torch.", "lightning."))]


def _parser_of(name: str, module: str, prog: str) -> Any:
    """The parser of a command that is not Lightning's."""
    make = getattr(importlib.import_module(module), "arguments", None)
    command: Any = make() if make else Arguments(name, "")
    command.prog, command._subcommands_action = prog, None  # as jsonargparse's have it
    for action in command._actions:
        if action.metavar == "RUN" or action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar == "RUN" else shtab.FILE
    return command


def print_completion(args: Sequence[str]) -> None:
    """Print it.

    Raises:
        ConfigurationError: If it is for another shell.
    """
    print(script(arguments().parse_args(args).shell))


def main(args: Sequence[str]) -> None:
    """The command.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    run_command(print_completion, args)


def _whole_parser() -> ArgumentParser:
    from laser_pl.commands import cli  # all that training imports: the names of its classes are wanted

    found = capture_parser(lambda: cli.main(["--help"]))
    assert isinstance(found, ArgumentParser)
    return found
