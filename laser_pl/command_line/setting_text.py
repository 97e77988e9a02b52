"""What is said of one setting: in help, and beside it in a configuration that is printed."""

from __future__ import annotations

import argparse
import re
import textwrap
import types
import typing
from collections.abc import Mapping
from typing import Any

from jsonargparse import DefaultHelpFormatter, Namespace

from laser_pl.borrowed.jsonargparse import ActionTypeHint

OWN = {
    "config": "A YAML file of settings; of several, a later one overlays an earlier one.",
    "print_config": "Print all settings with comments, and end; =skip_default prints what was set.",
    "optimizer": "The optimizer's class.",
    "lr_scheduler": "The schedule's class, stepped every step; null for none.",
    "ckpt_path": "A checkpoint to go on from, or to measure; null for none.",
}
"""For what others have no short text for, or none that is true here."""
_KINDS = {bool: "BOOL", int: "INT", float: "FLOAT", str: "TEXT"}


def summary(action: argparse.Action) -> str:
    """The first sentence."""
    return OWN.get(action.dest) or plain(first_sentence(action.help or ""))


def description(action: argparse.Action) -> str:
    """All of it, as plain text."""
    return OWN.get(action.dest) or plain(action.help or "")


def plain(text: str) -> str:
    """Text of a docstring without its markup.

    >>> plain("Set to ``norm``, see :func:`~torch.nn.utils.clip`, or :class:`torch.nn.Module`.")
    'Set to norm, see clip, or torch.nn.Module.'
    """
    text = re.sub(r":\w+:`~(?:[\w.]*\.)?([^`]+)`", r"\1", " ".join(text.split()))
    return re.sub(r":\w+:`([^`]+)`", r"\1", text).replace("``", "").replace("`", "")


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends one; the next begins with a capital, or with a name in backquotes.

    >>> first_sentence("Tokens, e.g. 7. More of them.")
    'Tokens, e.g. 7.'
    """
    text = text.partition(">>>")[0].rstrip()
    return re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!Eq\.)\s+(?=[A-Z(\"'`])", text, maxsplit=1)[0]


def kind_of(action: argparse.Action) -> str:
    """What a setting takes, as a word in capitals; empty for one that takes nothing."""
    if isinstance(action, ActionTypeHint):
        return _kind(action._typehint)
    return "" if action.nargs == 0 else str(action.metavar or "FILE")


def choices_of(action: argparse.Action) -> list[str]:
    """The words that a setting takes, where it takes no others."""
    hint = getattr(action, "_typehint", None)
    literals = [one for one in (hint, *typing.get_args(hint)) if typing.get_origin(one) is typing.Literal]
    return [str(word) for one in literals for word in typing.get_args(one)]


def default_of(action: argparse.Action) -> str:
    """``required``, or the value that holds where there is no other, as a command line would have it."""
    if action.default is argparse.SUPPRESS or action.dest == "config":
        return ""
    if action.default is None and action.required:
        return "required"
    return f"default: {_value(action.default)}"


def _kind(hint: Any) -> str:
    inner = [one for one in typing.get_args(hint) if one is not types.NoneType]
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        return "TEXT" if str in inner else _kind(inner[0])
    if origin is typing.Literal:
        return "WORD"
    return _KINDS.get(hint, "CLASS" if origin is None else "YAML")


def _value(value: Any) -> str:
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping) and "class_path" in value:
        settings = ", ".join(f"{name}={_value(one)}" for name, one in (value.get("init_args") or {}).items())
        return str(value["class_path"]).rpartition(".")[2] + (f"({settings})" if settings else "")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value) if value == "" else textwrap.shorten(str(value), 60, placeholder=" ...")


class SettingComment(DefaultHelpFormatter):
    """Jsonargparse's comments in a configuration, one sentence each."""

    def _expand_help(self, action: argparse.Action) -> str:
        about = "; ".join(filter(None, [" | ".join(choices_of(action)), default_of(action)]))
        return summary(action) + (f" ({about})" if about else "")
