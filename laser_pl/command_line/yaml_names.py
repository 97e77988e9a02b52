"""Names in a configuration are text as it is written, also where YAML 1.1 reads something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from jsonargparse._loaders_dumpers import get_yaml_default_loader


def read_names_as_text() -> None:
    """Let the parser take every key of a mapping as it is written.

    A reward model may be named ``yes``, a category ``1``, ``null`` or ``2024-01-01``. Where a setting wants numbers as
    keys the parser makes them of the text.
    """
    get_yaml_default_loader().add_constructor("tag:yaml.org,2002:map", _mapping)  # type: ignore[no-untyped-call]


def _mapping(loader: Any, node: yaml.MappingNode) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    yield found  # before its values, which may hold it
    loader.flatten_mapping(node)  # `<<`, which is no name
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            key.tag = "tag:yaml.org,2002:str"
    found.update(loader.construct_mapping(node))
