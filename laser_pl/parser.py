"""The parser of configurations and command lines."""

from __future__ import annotations

from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from laser_pl.errors import ConfigurationError
from laser_pl.parse_errors import in_one_sentence, name_unknown_setting


class Parser(LightningArgumentParser):
    """Raises what is wrong with the configuration, where Lightning's prints usage and exits."""

    args: list[str] = []  # noqa: RUF012 - jsonargparse sets it to what it parses

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Tell the user.

        Raises:
            ConfigurationError: Always.
        """
        if not getattr(self, "_inner_parser", False):  # else that of a class's settings, which does not see the whole
            message = in_one_sentence(message, self, getattr(self, "parent_parser", self).args)
        raise ConfigurationError(message)

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
