"""What W&B wrote to disk while offline, read back."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record


def records_of(path: Path) -> Iterator[Record]:
    """What W&B wrote while offline: protobuf records in LevelDB's log format, behind seven bytes of its own."""
    content, place, begun = path.read_bytes(), 7, b""
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:  # the rest of a block is filled up
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        begun += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(begun)
            yield record
            begun = b""


def media_of(records: Iterable[Record]) -> dict[str, str]:
    """The file of every table and page that was logged, below ``files/``, by the name it was logged as."""
    found = {}
    for item in (item for record in records for item in record.history.item):
        value = json.loads(item.value_json)
        if item.nested_key and item.nested_key[-1] == "path":
            found["/".join(item.nested_key[:-1])] = value
        elif isinstance(value, dict) and "path" in value:  # as older clients write it
            found[item.key] = value["path"]
    return found
