"""What is wrong with a configuration as YAML, reported with file and line before it is parsed."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from laser_pl.command_line.shipped import PREFIX, path_of
from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest_path, perhaps
from laser_pl.run.plain_yaml import load_yaml


def refuse_broken_yaml(args: Sequence[str]) -> None:
    """Look through the configurations and values of a command line; the parser's messages name neither file nor line.

    Args:
        args: The command line.

    Raises:
        ConfigurationError: If a file is not there, is no UTF-8, no YAML or no mapping, or a mapping has the same key
            twice, of which YAML would take the last without a word.
    """
    for word in configs_of(args):
        _refuse_config(word)
    for before, word in zip(["", *args], args, strict=False):
        option, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if value.lstrip().startswith("{"):  # perhaps no YAML but a template, which is the parser's to know
            with suppress(yaml.YAMLError, RecursionError):
                _refuse_keys_given_twice(value, option, "")


def place_of(section: str, setting: str, args: Sequence[str]) -> str:
    """Where the configurations of a command line say something, for a message.

    Args:
        section: What the setting lies in, at any depth: ``selection.reward_models``; empty for none.
        setting: Its name, or the last parts of it: ``weights.name``.
        args: The command line.

    Returns:
        ``own.yaml, line 3: ``, of the last file that has it; empty if none does.
    """
    for word in reversed(configs_of(args)):
        path = Path(word)
        with suppress(yaml.YAMLError, OSError, ValueError, RecursionError):
            for name, line in _settings(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)):
                if f"{name}.".startswith(f"{section}.".lstrip(".")) and f".{name}".endswith(f".{setting}"):
                    return f"{path}, line {line}: "
    return ""


def where_given(section: str, value: str, args: Sequence[str]) -> tuple[str, str]:
    """Which setting within a section has a value, and where the command line or its configurations say so.

    Args:
        section: What the setting lies in, at any depth.
        value: Its text.
        args: The command line.

    Returns:
        The setting's name without ``init_args``, and ``own.yaml, line 3: `` or, of the command line, nothing; two empty
        texts if nobody gives it.
    """
    for before, word in reversed(list(zip(["", *args], args, strict=False))):
        config = config_in(before, word)
        option, _, given = word.partition("=") if word.startswith("--") else (before, "", word)
        path = None if config is None or not _is_file(Path(config)) else Path(config)
        with suppress(yaml.YAMLError, OSError, ValueError, RecursionError):
            text = (config or given) if path is None else path.read_text(encoding="utf-8")
            above = "" if config is not None else option.removeprefix("--")
            for name, line in _places_of(value, yaml.compose(text, Loader=yaml.SafeLoader), above):
                if f"{name}.".startswith(f"{section}."):
                    return name.replace(".init_args.", "."), f"{path}, line {line}: " if path else ""
    return "", ""


def cut_short(option: str, least: str) -> set[str]:
    """An option's names as the parser takes them, which lets them be cut short as long as they are no other's.

    >>> sorted(cut_short("--config", "--conf"))
    ['--conf', '--confi', '--config']
    """
    return {option[:length] for length in range(len(least), len(option) + 1)}


def value_in(before: str, word: str, names: Collection[str]) -> str | None:
    """The value of an option in a word of a command line, which has the word before it or its own; None if it has none.

    >>> value_in("--config", "a.yaml", {"--config"}), value_in("fit", "--config=a.yaml", {"--config"})
    ('a.yaml', 'a.yaml')
    """
    name, equals, value = word.partition("=")
    return word if before in names else value if equals and name in names else None


_CONFIG = {"-c", *cut_short("--config", "--con")}


def config_in(before: str, word: str) -> str | None:
    """The path of a configuration, or the configuration itself, in a word of a command line; None if it holds none.

    A configuration that comes with the package, ``preset:trusted``, is its path.

    >>> config_in("--config", "a.yaml"), config_in("fit", "--conf=a.yaml"), config_in("fit", "-ca.yaml")
    ('a.yaml', 'a.yaml', 'a.yaml')

    Raises:
        ConfigurationError: If there is no preset of that name.
    """
    given = _config_as_given(before, word)
    return str(path_of(given)) if given is not None and given.startswith(PREFIX) else given


def _config_as_given(before: str, word: str) -> str | None:
    value = value_in(before, word, _CONFIG)
    if value is not None:
        return value
    return word.removeprefix("-c") if word.startswith("-c") and word != "-c" else None


def with_paths(args: Sequence[str]) -> list[str]:
    """A command line that names the configurations of the package by their paths.

    Args:
        args: The command line; everything else in it stays as it is.
    """
    found = []
    for before, word in zip(["", *args], args, strict=False):
        given = _config_as_given(before, word)
        preset = given is not None and given.startswith(PREFIX)
        found.append(word.removesuffix(given) + str(path_of(given)) if preset and given is not None else word)
    return found


def configs_of(args: Sequence[str]) -> list[str]:
    """Paths of configurations, or the configurations themselves."""
    found = (config_in(before, word) for before, word in zip(["", *args], args, strict=False))
    return [config for config in found if config is not None]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name that a file could have
        return False


def _refuse_config(word: str) -> None:
    path = Path(word)
    if _is_file(path):
        _refuse_file(path)
    elif _is_no_yaml_but_a_path(word):
        raise ConfigurationError(f"There is no file '{word}'.{perhaps(closest_path(path), 'Check --config.')}")


def _is_no_yaml_but_a_path(word: str) -> bool:
    try:
        return isinstance(yaml.safe_load(word), str) and not Path(word).exists()
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return False


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line}: this is no UTF-8 ({error.reason}).") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None


def _refuse_file(path: Path) -> None:
    text = _text_of(path)
    try:
        found = load_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigurationError(f"{path}{line}: this is no YAML ({error.problem}).") from None
    except (yaml.YAMLError, ValueError) as error:  # a forbidden character, an impossible date
        raise ConfigurationError(f"{path}: this is no YAML ({str(error).splitlines()[0]}).") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: this YAML is nested too deeply.") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} holds no settings but {reprlib.repr(found)}. Write them as name: value.")
    _refuse_keys_given_twice(text, str(path), ", line {line}")


def _refuse_keys_given_twice(text: str, where: str, place: str) -> None:
    for key, line in _keys_given_twice(yaml.compose(text, Loader=yaml.SafeLoader)):
        raise ConfigurationError(
            f"{where}{place.format(line=line)}: '{key}' is given twice in one mapping. Give each its own name, or take"
            " one out."
        )


def _settings(node: yaml.Node | None, above: str = "") -> Iterator[tuple[str, int]]:
    """The dotted names of all settings, with their lines."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{above}.{key.value}".lstrip(".")
            yield name, key.start_mark.line + 1
            yield from _settings(value, name)


def _places_of(value: str, node: yaml.Node | None, above: str) -> Iterator[tuple[str, int]]:
    """The dotted names of settings with a value, with their lines."""
    if isinstance(node, yaml.ScalarNode) and node.value == value:
        yield above, node.start_mark.line + 1
    elif isinstance(node, yaml.MappingNode):
        for key, below in node.value:
            yield from _places_of(value, below, f"{above}.{key.value}".lstrip("."))


def _keys_given_twice(root: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Keys that a mapping has already, with the line of the second one."""
    waiting, met = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in met:  # an alias, perhaps of what it stands in
            continue
        met.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            known: set[str] = set()
            for key, value in node.value:
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in known:  # a name is its text, quoted or not
                        yield key.value, key.start_mark.line + 1
                    known.add(key.value)
