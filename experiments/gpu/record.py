"""What was measured, on which device and with what, as JSON that is written row by row, and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rows import Row

HEAD = """\
# The check on a GPU

Written by `python experiments/gpu/check.py`; its head says what it costs and what the rows mean.
"""
NOT_RUN = """\
**Not run on a card.** What follows is the small form, tiny models on a CPU: it shows that every row runs, and how the
table looks. Its times and shares say nothing about a GPU.
"""


@dataclass
class Measured:
    """One row as it was found.

    Attributes:
        holds: ``yes``, ``no``, empty where there is no should, ``error``, ``left out`` or ``not reached``.
        text: What was found.
        numbers: Its figures.
        seconds: It took.
        commit: Of the code that was looked at.
    """

    holds: str
    text: str
    numbers: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    commit: str = ""

    @property
    def stays(self) -> bool:
        """Whether it need not be measured again."""
        return self.holds in {"yes", ""}


@dataclass
class Device:
    """All that is known of one device with one set of versions and sizes.

    Attributes:
        name: Of the device.
        card: Whether it is a GPU.
        versions: Of packages and driver.
        sizes: What was asked about.
        rows: By name.
    """

    name: str
    card: bool
    versions: dict[str, str]
    sizes: dict[str, Any]
    rows: dict[str, Measured] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for what can be compared."""
        return json.dumps([self.name, self.versions, self.sizes], sort_keys=True)


class Record:
    """Devices that were checked so far.

    Args:
        path: The JSON; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.devices: list[Device] = []
        if path.is_file():
            for found in json.loads(path.read_text(encoding="utf-8")):
                rows = {name: Measured(**row) for name, row in found.pop("rows").items()}
                self.devices.append(Device(**found, rows=rows))

    def of(self, device: Device) -> Device:
        """The same device as it is known already, or this one from now on."""
        for known in self.devices:
            if known.key == json.loads(json.dumps(device.key)):
                return known
        self.devices.append(device)
        return device

    def write(self, folder: Path, rows: Iterable[Row]) -> None:
        """Both files; each is there as a whole or as it was."""
        folder.mkdir(parents=True, exist_ok=True)
        everything = json.dumps([asdict(device) for device in self.devices], indent=1, allow_nan=True)
        for name, text in (("check.json", everything), ("RESULTS.md", self.page(list(rows)))):
            temporary = folder / f"{name}.part"
            temporary.write_text(f"{text.rstrip()}\n", encoding="utf-8")
            temporary.replace(folder / name)

    def page(self, rows: list[Row]) -> str:
        """The tables of all cards; where there was none, that of a CPU."""
        cards = [device for device in self.devices if device.card]
        parts = [HEAD, *([] if cards else [NOT_RUN])]
        for device in cards or self.devices:
            told = ", ".join(f"{name} {number}" for name, number in device.versions.items())
            parts.append(f"## {device.name}, {device.sizes['name']} form\n\n{told}.\n\n{_table(device, rows)}")
        return "\n".join(parts)


def _table(device: Device, rows: list[Row]) -> str:
    lines = ["| part | row | asks | found | holds | seconds |", "|---|---|---|---|---|---|"]
    for row in rows:
        if (found := device.rows.get(row.name)) is not None:
            cells = row.part, row.name, row.question, found.text, found.holds, f"{found.seconds:.1f}"
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)
