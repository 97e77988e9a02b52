"""A configuration as YAML with a comment on each setting.

Jsonargparse knows which comment belongs where. It writes them by `ruamel.yaml`, which drops quotes that the YAML of the
parser needs: a reward model named 'on' would come back as true. So lines of comments are put between the lines that
PyYAML wrote, which cannot change what they say.
"""

from __future__ import annotations

import textwrap
from argparse import Action
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from laser_pl.borrowed.jsonargparse import ActionPrintConfig, YAMLCommentFormatter, get_group_titles, parser_context
from laser_pl.command_line.setting_text import SettingComment

_WIDTH = 118


class PrintConfig(ActionPrintConfig):
    """``--print_config``, whose flag ``comments`` needs no other library here."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Note what is asked for; it is printed once all is parsed."""
        flags = values[0].split(",")
        others = ",".join(flag for flag in flags if flag != "comments")
        super().__call__(parser, namespace, [others], option_string)  # type: ignore[no-untyped-call]
        getattr(parser, "parent_parser", parser).print_config["with_comments"] = "comments" in flags


def commented(text: str, parser: ArgumentParser) -> str:
    """The same configuration, with a comment before each setting.

    Args:
        text: YAML.
        parser: The command's, whose settings they are.
    """
    comments = _Comments(SettingComment(parser.prog))  # type: ignore[no-untyped-call]
    with parser_context(parent_parser=parser):
        comments.set_comments(yaml.load(text, Loader=_Loader), parser, get_group_titles(parser))
    lines = []
    for number, line in enumerate(text.splitlines()):
        if number in comments.found:
            column, comment = comments.found[number]
            lines += [""] if column == 0 else []
            lines += textwrap.wrap(comment, _WIDTH, break_on_hyphens=False, initial_indent=" " * column + "# ",
                                   subsequent_indent=" " * column + "# ")  # fmt: skip
        lines.append(line)
    return f"# {parser.description}\n" + "\n".join(lines) + "\n"


class _Mapping(dict[Any, Any]):
    """Knows where each of its keys stands: line and column."""

    places: dict[Any, tuple[int, int]]


class _Loader(yaml.SafeLoader):
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode) -> _Mapping:
    found = _Mapping(loader.construct_mapping(node, deep=True))
    marks = [key.start_mark for key, _ in node.value]
    found.places = {name: (mark.line, mark.column) for name, mark in zip(found, marks, strict=True)}
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


class _Comments(YAMLCommentFormatter):
    """Collects comments by line, with the column at which they are to stand."""

    def __init__(self, formatter: SettingComment) -> None:
        super().__init__(formatter)
        self.found: dict[int, tuple[int, str]] = {}

    def set_yaml_group_comment(self, text: str, cfg: Any, key: str, depth: int) -> None:
        line, column = cfg.places[key]
        self.found[line] = (column, text)

    set_yaml_argument_comment = set_yaml_group_comment

    def set_list_comments(self, cfg: list[Any], action: Action | None, depth: int, typehint: Any = None) -> None:
        for item in cfg:
            if isinstance(item, dict):
                self.set_dict_comments(item, action, depth, typehint=typehint)
            elif isinstance(item, list):
                self.set_list_comments(item, action, depth + 1, typehint=typehint)
