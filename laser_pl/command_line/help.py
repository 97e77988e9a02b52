"""What ``--help`` shows: ours first, a line for each setting; all that is known of a section where it is asked for."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from jsonargparse import ArgumentParser

from laser_pl.borrowed.jsonargparse import (
    ActionConfigLoad,
    ActionLink,
    ActionPrintConfig,
    NonParsingAction,
    restore_suppressed_required,
)
from laser_pl.command_line.commands import PROGRAM, SUMMARIES, overview
from laser_pl.command_line.known_classes import known_classes
from laser_pl.command_line.setting_text import (
    choices_of,
    default_of,
    description,
    first_sentence,
    kind_of,
    plain,
    summary,
)
from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest_setting, perhaps

SECTIONS = {
    "run": "The run",
    "model": "The policy, a language model that learns which of its own responses a reward model prefers",
    "data": "Prompts for the policy, and how it answers them",
    "selection": "Which reward model judges: chosen before each training step, learned from it",
    "optimizer": "The optimizer, a class of torch.optim or of your own; its settings are --optimizer.lr and so on",
    "lr_scheduler": "The learning rate's schedule, a class of torch.optim.lr_scheduler or of your own",
    "trainer": "Lightning's Trainer",
}
"""Sections of a configuration, in the order in which they are shown."""
_WIDEST = 120
_LEFT = 42


class Help(argparse._HelpAction):
    """``--help``, and ``--help SECTION``.

    Args:
        kwargs: As argparse's.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nargs, self.metavar = "?", "[NAME]"
        self.help = "This page; with the name of a section or a setting, all about it."

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Print it, and end."""
        assert isinstance(parser, ArgumentParser)
        print(page(parser) if values is None else section(parser, values), end="")
        parser.exit()


def page(parser: ArgumentParser) -> str:
    """All settings of a parser; of the trainer's only the names.

    Args:
        parser: That of all commands, of one of them, or of a class's settings.
    """
    if parser._subcommands_action is not None:
        return overview()
    command = getattr(parser, "subcommand", None)
    if command is None:
        return _class_page(parser)
    lines = [
        f"usage: {PROGRAM} {command} --config FILE [--config FILE ...] [--SETTING VALUE ...]",
        "",
        SUMMARIES.get(command, parser.description or ""),
        f"All about a section or a setting: {PROGRAM} {command} --help selection.bandit",
        f"All about a class it may name:    {PROGRAM} {command} --selection.bandit.help LinUCB",
    ]
    with restore_suppressed_required():
        for name, title in SECTIONS.items():
            lines += ["", f"{title}:"]
            if name == "trainer":
                names = ", ".join(action.dest.removeprefix("trainer.") for action in _settings(parser, name))
                lines += _wrapped(
                    f"--trainer.max_epochs and so on; all about them: --help trainer. There are {names}.", 2
                )
            else:
                lines += [line for action in _settings(parser, name) for line in _row(action)]
    return "\n".join(lines) + "\n"


def section(parser: ArgumentParser, name: str) -> str:
    """All about the settings whose dotted names begin with one.

    Args:
        parser: That of a command, or of all.
        name: A section, a setting, or what a few have in common: ``model.lora``. For all commands: one of them.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    commands = parser._subcommands_action._name_parser_map if parser._subcommands_action else {}
    if name in commands:
        return page(commands[name])
    every = {one: list(_settings(parser, one)) for one in SECTIONS}
    title = f"{SECTIONS[name]}:\n\n" if name in SECTIONS else ""
    found = every.get(name) or [action for one in every.values() for action in one
                                if f"{action.dest}.".startswith(f"{name.removeprefix('--')}.")]  # fmt: skip
    if not found:
        names = [*commands, *(SECTIONS if not commands else []), *(a.dest for one in every.values() for a in one)]
        choice = f"There is help on {', '.join(commands or SECTIONS)}."
        raise ConfigurationError(f"--help knows nothing of '{name}'.{perhaps(closest_setting(name, names), choice)}")
    with restore_suppressed_required():
        return title + "\n".join(line for action in found for line in _entry(action)) + "\n"


def _class_page(parser: ArgumentParser) -> str:
    """All about a class. Where it stands, and its path, jsonargparse tells in the parser's description alone."""
    option, _, path = (parser.description or "").removeprefix("Help for ").partition(".help=")
    title = next((group.title for group in (parser.groups or {}).values()), "")
    lines = [f"{path}: {plain(title or '')}.", ""]
    for action in filter(_is_setting, parser._actions):
        lines += _entry(action, above=f"{option}.")  # as under init_args: of a dict's class there is no such option
    return "\n".join(lines if lines[2:] else [*lines, "It has no settings."]) + "\n"


def _settings(parser: ArgumentParser, section: str) -> Iterator[argparse.Action]:
    for action in parser._actions:
        first, dot, _ = action.dest.partition(".")
        own = first if dot or first in SECTIONS else "run"
        if own == section and _is_setting(action):
            yield action


def _is_setting(action: argparse.Action) -> bool:
    if isinstance(action, Help | ActionPrintConfig):
        return True
    return not isinstance(action, ActionLink | NonParsingAction | ActionConfigLoad) and action.help != argparse.SUPPRESS


def _invocation(action: argparse.Action, above: str = "") -> str:
    if isinstance(action, ActionPrintConfig):
        return "--print_config[=FLAGS]"
    names = [name.removeprefix(above) for name in action.option_strings if not name.endswith("+")]
    return " ".join(filter(None, [", ".join(names), kind_of(action)]))


def _row(action: argparse.Action) -> list[str]:
    """One line, where the terminal is wide enough."""
    default = default_of(action)
    text = _wrapped(summary(action) + (f" ({default})" if default else ""), _LEFT)
    left = f"  {_invocation(action)}"
    if len(left) > _LEFT - 2:
        return [left, *text]
    return [left.ljust(_LEFT) + text[0].lstrip(), *text[1:]]


def _entry(action: argparse.Action, above: str = "") -> list[str]:
    """All that is known of a setting, without what stands ``above`` it in its name."""
    default = default_of(action)
    lines = [
        f"  {_invocation(action, above)}" + (f"  ({default})" if default else ""),
        *_wrapped(description(action), 6),
    ]
    if words := choices_of(action):
        lines += _wrapped(f"One of {', '.join(words)}.", 6)
    return [*lines, *_classes(action), ""]


def _classes(action: argparse.Action) -> Iterator[str]:
    """What a setting may name: our own classes with a sentence each, of others the names."""
    known = {path.rpartition(".")[2]: one for path, one in reversed(known_classes(action).items())}
    own = {name: one for name, one in known.items() if one.__module__.startswith("laser_pl.")}
    if not own:
        if known:
            yield from _wrapped(f"Classes: {', '.join(sorted(known))}.", 6)
        return
    yield f"      Classes, all about one by {action.option_strings[0]}.help NAME:"
    width = max(map(len, own)) + 2
    for name, one in sorted(own.items()):
        text = _wrapped(plain(first_sentence((one.__doc__ or "").strip())), 8 + width)
        yield " " * 8 + name.ljust(width) + text[0].lstrip()
        yield from text[1:]


def _wrapped(text: str, indent: int) -> list[str]:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    return textwrap.wrap(text, max(width, indent + 30), initial_indent=" " * indent, subsequent_indent=" " * indent,
                         break_on_hyphens=False, break_long_words=False) or [""]  # fmt: skip
