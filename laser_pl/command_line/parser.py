"""The parser of configurations and command lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from laser_pl.borrowed.jsonargparse import ActionPrintConfig
from laser_pl.command_line.config_comments import PrintConfig, commented
from laser_pl.command_line.config_files import with_paths
from laser_pl.command_line.folders import from_root
from laser_pl.command_line.help import SECTIONS, Help, page
from laser_pl.command_line.parse_errors import in_one_sentence, name_unknown_setting
from laser_pl.command_line.setting_text import SettingComment
from laser_pl.command_line.yaml_names import read_names_as_text, read_old_class_paths, write_values_of_lightning
from laser_pl.errors import ConfigurationError

read_names_as_text()
read_old_class_paths()
write_values_of_lightning()


class Parser(LightningArgumentParser):
    """Raises what is wrong with the configuration, where Lightning's prints usage and exits.

    Args:
        args: As Lightning's.
        kwargs: As Lightning's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, add_help=False, formatter_class=SettingComment)
        self.add_argument("-h", "--help", action=Help)

    args: list[str] = []  # noqa: RUF012 - jsonargparse sets it to what it parses

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any
    ) -> Namespace:
        """Jsonargparse's, where configurations may be those that come with the package."""
        given = with_paths(sys.argv[1:] if args is None else args)
        return super().parse_args(given, *others, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print.

        Raises:
            ConfigurationError: Always.
        """
        if not getattr(self, "_inner_parser", False):  # else that of a class's settings, which does not see the whole
            message = in_one_sentence(message, self, getattr(self, "parent_parser", self).args)
        raise ConfigurationError(message)

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """Ours, in place of argparse's."""
        return page(self)

    def _parse_optional(self, arg_string: str) -> Any:
        """Comments are printed where nothing else is asked for."""
        word = "--print_config=comments" if arg_string == "--print_config" else arg_string
        return super()._parse_optional(word)  # type: ignore[no-untyped-call]

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Jsonargparse's, with our ``--print_config``."""
        if kwargs.get("action") is ActionPrintConfig:
            kwargs["action"] = PrintConfig
        return super().add_argument(*args, **kwargs)

    def dump(self, *args: Any, with_comments: bool = False, **kwargs: Any) -> str:
        """Jsonargparse's, with our comments."""
        text = str(super().dump(*args, **kwargs))
        if not with_comments:
            return text
        for name, title in SECTIONS.items():
            if name in (self.groups or {}):
                self.groups[name].title = title  # type: ignore[index]
        # Of two groups that hold something of a section, jsonargparse takes the last one's title.
        self._action_groups.sort(key=lambda group: group.title != "Linked arguments")  # type: ignore[attr-defined]
        return commented(text, self)

    def instantiate_classes(self, cfg: Namespace, **kwargs: Any) -> Namespace:
        """Jsonargparse's, where loggers and their like write to folders that are named from the root."""
        whole = cfg.clone()
        for name in ("trainer", f"{cfg.get('subcommand')}.trainer"):
            if name in whole:
                whole[name] = from_root(whole[name])
        try:
            return super().instantiate_classes(whole, **kwargs)  # type: ignore[no-any-return]
        except ConfigurationError:
            raise
        except ValueError as error:  # a class refuses what it is given
            self.error(str(error), error)

    def validate(self, namespace: Namespace, skip_unset: bool = True, **kwargs: Any) -> None:
        """Jsonargparse's, which looks neither at what is null nor at what stands in the place of a section."""
        try:
            super().validate(namespace, skip_unset=False, **kwargs)
        except KeyError as error:  # here it is known which names there are
            error.args = (name_unknown_setting(str(error), self),)
            raise
        for name in [group for group in self.groups or {} if group in namespace]:
            value = namespace[name]
            if not isinstance(value, Namespace) and (value, name) != (None, "lr_scheduler"):  # that one is optional
                raise TypeError(f'Parser key "{name}": Expected settings. Got value: {value!r:.40}')
