"""What the parser finds wrong, in one sentence that names what was perhaps meant.

Jsonargparse's messages are the only thing it gives to distinguish mistakes. One that is not known here stays as it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser

from laser_pl.borrowed.jsonargparse import ActionTypeHint, NonParsingAction
from laser_pl.command_line.commands import PROGRAM, SUMMARIES
from laser_pl.command_line.config_files import place_of, where_given
from laser_pl.command_line.known_classes import known_classes, own_classes, parameters_of
from laser_pl.command_line.named_functions import why_no_function
from laser_pl.messages.suggestions import closest, closest_setting, perhaps

_CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
_KINDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "NoneType": "null",
          "dict": "a mapping", "list": "a list"}  # fmt: skip


def name_unknown_setting(message: str, parser: ArgumentParser) -> str:
    """Jsonargparse's message that a parser does not know a name, with the one it knows.

    Args:
        message: Anything else stays as it is.
        parser: The one that does not know it: a command's, or that of a class's settings.

    Returns:
        ``'...' is no setting.`` with a question, or with what there is instead where that is little.
    """
    found = re.search(
        r"(?:Subcommand '(\S+)' does|Group '(\S+)' does|Option) ?(?:not accept option)? ?'([^']+)'", message
    )
    if found is None or "accept" not in message:
        return message
    command, group, name = found.groups()
    if group:
        name = f"{group}.{name}"
    if command:
        known = list(settings_of(parser._subcommands_action._name_parser_map[command]))  # type: ignore[union-attr]
    else:
        known = list(settings_of(parser))
    choices = sorted({setting.partition(".")[0] for setting in known} - {"help"})
    meant = closest_setting(name, known if command else [*known, *_CLASS_KEYS])
    if meant is not None:
        name, meant = _without_same_end(name, meant)
    otherwise = f"It has {', '.join(choices) or 'none'}." if not command and len(choices) < 20 else ""
    return f"'{name}' is no setting.{perhaps(meant, otherwise)}"


@dataclass(frozen=True)
class _Mistake:
    """What the parser says.

    Attributes:
        text: Its message in one line.
        where: The setting of the command in which it found something.
        setting: The same down to what it found, as far as it says: a class's own setting.
        command: The parser of the command.
        args: The command line.
    """

    text: str
    where: str
    setting: str
    command: ArgumentParser
    args: Sequence[str]

    def has(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.text)


def in_one_sentence(message: str, parser: ArgumentParser, args: Sequence[str]) -> str:
    """A message that names what was perhaps meant.

    Args:
        message: The parser's.
        parser: A command's, or the one above all commands.
        args: The command line.
    """
    text = re.sub(r"- Expected a path but .*? either not accessible or invalid - ", "", " ".join(message.split()))
    text = _without_other_kinds(text)
    keys = re.findall(r'Parser key "([^"]+)"', text) or re.findall(r"^--(\S+)\.help:", text)
    mistake = _Mistake(text, keys[0] if keys else "", ".".join(keys), _command_of(parser, args), args)
    kinds = _about_made, _about_word, _about_function, _about_setting, _about_class, _about_value, _about_choice
    told = (about(mistake) for about in kinds)
    return next(filter(None, told), text).removeprefix(": ")  # of a class that is made nobody says where it stands


def _without_other_kinds(text: str) -> str:
    """A message about a setting of a class, where there are several kinds of class: all find the same wrong.

    That it is not null either, which a setting might be in the class's place, says nothing about the setting.
    """
    text = re.sub(r" - Expected a <class 'NoneType'> Given value type: <class '\S+NestedArg'> .*$", "", text)
    first, *others = text.split(' - Parser key "')
    return ' - Parser key "'.join([first, *dict.fromkeys(others)])


def _about_made(mistake: _Mistake) -> str | None:
    """A class among several kinds of value that fails when it is made: a logger whose server is not there."""
    found = mistake.has(r"Errors: - (.*?) Given value type: .*? Given value: (.*Namespace\(class_path=.*)$")
    if found is None:
        return None
    made = dict.fromkeys(re.findall(r"Namespace\(class_path='([^']+)'", found[2]))
    why = re.sub(r"Not a valid subclass of .*? Subclass types .*?\(implicit class_path\)", "", found[1])
    why = re.sub(r"(?:^|(?<= ))-? ?Expected a <class '[\w.]+'>", "", why).strip(" -")
    return f"{' or '.join(made)} cannot be made: {why.rstrip('.')}." if why else None


def _about_word(mistake: _Mistake) -> str | None:
    """A command, an option or a flag that there is not."""
    see_help = f"See {PROGRAM} {getattr(mistake.command, 'subcommand', '')}".rstrip() + " --help."
    if found := mistake.has(r"invalid choice: '(.*?)' \(choose"):
        advice = perhaps(closest(found[1], SUMMARIES), f"See {PROGRAM} --help.")
        return f"There is no command '{found[1]}'.{advice}"
    if found := mistake.has(r"unrecognized arguments: (--[^\s=]+)"):
        meant = closest_setting(found[1][2:], settings_of(mistake.command))
        return f"There is no option '{found[1]}'.{perhaps(meant and f'--{meant}', see_help)}"
    if found := mistake.has(r"unrecognized arguments: (\S+)"):
        meant = f"--config {found[1]}" if Path(found[1]).is_file() else None
        return f"'{found[1]}' is neither an option nor the value of one.{perhaps(meant, see_help)}"
    if found := mistake.has(r'Invalid option "(.*)" for --print_config'):
        flags = ("comments", "skip_default", "skip_unset")
        return f"--print_config= takes {', '.join(flags)}, got '{found[1]}'.{perhaps(closest(found[1], flags))}"
    return None


def _about_function(mistake: _Mistake) -> str | None:
    """A function that there is not: one of the user's own, with a slip in its name."""
    found = mistake.has(r"expects a function or a callable class: (.*?)\. Got value: (.*)$")
    if found is None and mistake.setting.endswith(".function"):
        found = mistake.has(r"(Expected a dot import path string|Unexpected import path format): (.*)$")
    if found is None:
        return None
    name, place = where_given(mistake.where, found[2], mistake.args)
    return f"{place}{name or mistake.setting}: {why_no_function(found[2], found[1])}"


def _about_setting(mistake: _Mistake) -> str | None:
    """A setting that there is not, see ``name_unknown_setting``, or one that must be there."""
    where, args = mistake.where, mistake.args
    if found := mistake.has(r"'([^']+)' is no setting\.( Did you mean '[^']+'\?| It has [\w, ]+\.)?"):
        place = place_of(where, found[1], args)
        there_is = f"{where} has" if where else "there is" if place else "There is"
        advice = found[2] or f" See {PROGRAM} {getattr(mistake.command, 'subcommand', '')} --help."
        return f"{place}{there_is} no setting '{found[1]}'.{advice}"
    if found := mistake.has(r"Not a valid subclass of (\w+)\. Got value: (.*?) Subclass types"):
        for word in re.findall(r"'(\w+)':", found[2]):
            meant = closest(word, _CLASS_KEYS)
            if meant and word != meant:
                return f"{place_of(where, word, args)}{where} has no setting '{word}'.{perhaps(meant)}"
        return f"{mistake.setting} must be the class_path of a {found[1]}, got {_as_yaml(found[2])}."
    return None


def _about_class(mistake: _Mistake) -> str | None:
    """A class that there is not, or that is of another kind."""
    found = (
        mistake.has(r"Import path (\S+) does not correspond to a subclass of (\w+)")
        or mistake.has(r"class_path '([^']+)'")
        or mistake.has(r"Expected a dot import path string: (\S+)")
    )
    if found is None:
        return None
    given, where = found[1], mistake.where
    numbers = [kind for kind in re.findall(r"Expected a <class '(int|float)'>", mistake.text)]
    if numbers and not re.search(r"[A-Z.]", given):  # or else a class, which nobody means by that
        return f"{mistake.setting} must be {' or '.join(_KINDS[one] for one in numbers)}, got {given}."
    action = next((one for one in mistake.command._actions if one.dest == where), None)
    known = list(known_classes(action)) if action else []
    if mistake.setting != where or not known:  # that of a setting within a class
        known = own_classes()
    by_name = {path.rpartition(".")[2]: path for path in reversed(known)}
    meant = closest(given.rpartition(".")[2], by_name)
    reason = mistake.has(rf"class_path '{re.escape(given)}': (.*?)(?: - |$)")
    cannot = f"'{given}' cannot be imported: {reason[1] if reason else 'there is no such class'}."
    if meant is not None and by_name[meant] != given:
        same = "." not in given or given.partition(".")[0] == by_name[meant].partition(".")[0]
        what = f"there is no class '{given}'." if same else cannot  # a class of the user's own, perhaps
        return f"{where}: {what}{perhaps(by_name[meant] if '.' in given else meant)}"  # as short as it was given
    choice = f" Name one of {', '.join(sorted(by_name))}, or a class of your own by its import path."
    choice = choice if len(by_name) < 20 else ""
    if found.re.groups == 2:
        return f"{where}: '{given}' is no {found[2]}.{choice}"
    return f"{where}: {cannot}" if "." in given else f"{where}: there is no class '{given}'.{choice}"


def _about_value(mistake: _Mistake) -> str | None:
    """A value of another kind, or one word that is not among those that there are."""
    setting, text = mistake.setting, mistake.text
    found = mistake.has(r"(?:Got|Given) value: (.*?)(?: - (?:Expected|Parser key)| Given value type|\. Got value|$)")
    if found is None:
        return None
    types = re.findall(r"Expected a <class '([\w.]+)'>", text) or re.findall("Expected (settings)", text)
    unset = types in (["str"], ["dict"]) and found[1] == "None"
    if unset and any(one.dest == setting and one.default is None for one in mistake.command._actions):
        return f"{setting} is missing. Set it in a --config{f', or by --{setting}' if types == ['str'] else ''}."
    if types and len(types) == max(1, text.count(" - ")):
        return _of_another_kind(setting, types, found[1])
    if words := mistake.has(r"Literal\[(.*?)\]"):
        choices = [str(one) for one in ast.literal_eval(f"[{words[1]}]")]
        null = ", null" if "NoneType" in text.rpartition("Parser key")[2] else ""
        advice = perhaps(closest(found[1], choices))
        return f"{setting} must be one of {', '.join(choices)}{null}, got '{found[1]}'.{advice}"
    return None


def _about_choice(mistake: _Mistake) -> str | None:
    """A value of none of the kinds that a class takes, or one that it refuses; reported by the innermost of them."""
    found = mistake.has(r".*Subtypes: \[(.*?)\] Errors: - (.*)$")
    if found is None:
        return None
    value = re.search(r"Given value: (.*?)(?: - | Given value|$)", found[2])
    kinds = re.findall(r"<class '(\w+)'>", found[1])
    if value and found[2].startswith(("Expected a <class", "Not a valid subclass")):
        if {*kinds} - {"NoneType"}:
            return _of_another_kind(mistake.setting, kinds, value[1])
        return f"{mistake.setting} must be the class_path of one, or null, got {_as_yaml(value[1])}."
    why = re.split(r" - (?:Not a|Expected|Parser key)| Given value", found[2])[0]
    return f"{mistake.setting}: {why.rstrip('.')}."


def _of_another_kind(setting: str, types: Sequence[str], value: str) -> str:
    kinds = dict.fromkeys(_KINDS.get(one, one) for one in types)
    misread = "str" in types and re.fullmatch(r"True|False|[-+.\w]*\d[-+.\w]*", value)
    advice = " To give it as a text, write it in quotes." if misread else ""
    return f"{setting} must be {' or '.join(kinds)}, got {_as_yaml(value)}.{advice}"


def settings_of(parser: ArgumentParser) -> Iterator[str]:
    """The dotted names of a parser's settings, and of those of the classes that it knows."""
    for action in parser._actions:
        if isinstance(action, NonParsingAction):
            continue
        for option in action.option_strings:
            if option.startswith("--"):
                yield option[2:]
        if not isinstance(action, ActionTypeHint) or ActionTypeHint.is_mapping_typehint(action._typehint):  # type: ignore[no-untyped-call]
            continue
        classes = known_classes(action).values()
        if classes:
            yield from (f"{action.dest}.{key}" for key in _CLASS_KEYS)
        for parameter in {name for one in classes for name in parameters_of(one)}:
            yield f"{action.dest}.{parameter}"
            yield f"{action.dest}.init_args.{parameter}"


def _as_yaml(value: str) -> str:
    return "null" if value == "None" else value


def _command_of(parser: ArgumentParser, args: Sequence[str]) -> ArgumentParser:
    """The parser of the command that a line names."""
    commands = parser._subcommands_action._name_parser_map if parser._subcommands_action else {}
    return next((commands[word] for word in args if word in commands), parser)


def _without_same_end(name: str, meant: str) -> tuple[str, str]:
    """Two dotted names of as many parts up to the last part in which they differ."""
    parts, others = name.split("."), meant.split(".")
    while len(parts) == len(others) > 1 and parts[-1] == others[-1] and parts != others:
        del parts[-1], others[-1]
    return ".".join(parts), ".".join(others)
