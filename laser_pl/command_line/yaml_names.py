"""What YAML and the parser do not do by themselves: names as they are written or are now, values of Lightning's."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import torch
import yaml
from jsonargparse.typing import register_type

from laser_pl import moved
from laser_pl.borrowed.jsonargparse import get_yaml_default_loader


def read_names_as_text() -> None:
    """Let the parser take every key of a mapping as it is written.

    A reward model may be named ``yes``, a category ``1``, ``null`` or ``2024-01-01``. Where a setting wants numbers as
    keys the parser makes them of the text.
    """
    get_yaml_default_loader().add_constructor("tag:yaml.org,2002:map", _mapping)  # type: ignore[no-untyped-call]


def read_old_class_paths() -> None:
    """Let the parser take a class by the import path that it had in the release before, with a warning."""
    get_yaml_default_loader().add_constructor("tag:yaml.org,2002:str", _text)  # type: ignore[no-untyped-call]


def write_values_of_lightning() -> None:
    """Let a run's ``config.yaml`` hold the defaults of ``Timer`` and ``StochasticWeightAveraging``.

    They are a member of an enumeration where a text is meant, and a device.
    """
    yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))
    register_type(torch.device, str, torch.device, RuntimeError)


def _text(loader: Any, node: yaml.ScalarNode) -> str:
    text: str = loader.construct_scalar(node)
    now = moved.present_name(text)
    if now != text:
        moved.warn(text)
    return now


def _mapping(loader: Any, node: yaml.MappingNode) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    yield found  # before its values, which may hold it
    loader.flatten_mapping(node)  # `<<`, which is no name
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            key.tag = "tag:yaml.org,2002:str"
    found.update(loader.construct_mapping(node))
