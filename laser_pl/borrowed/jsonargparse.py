"""Names from the inside of jsonargparse: help, comments in a configuration and suggestions are made of them."""

from jsonargparse._actions import _ActionConfigLoad as ActionConfigLoad
from jsonargparse._actions import _ActionPrintConfig as ActionPrintConfig
from jsonargparse._common import NonParsingAction, parser_context, parsing_settings
from jsonargparse._formatters import YAMLCommentFormatter, get_group_titles
from jsonargparse._link_arguments import ActionLink
from jsonargparse._loaders_dumpers import get_yaml_default_loader
from jsonargparse._required import restore_suppressed_required
from jsonargparse._typehints import ActionTypeHint, get_all_subclass_paths

__all__ = [
    "ActionConfigLoad",
    "ActionLink",
    "ActionPrintConfig",
    "ActionTypeHint",
    "NonParsingAction",
    "YAMLCommentFormatter",
    "get_all_subclass_paths",
    "get_group_titles",
    "get_yaml_default_loader",
    "parser_context",
    "parsing_settings",
    "restore_suppressed_required",
]
