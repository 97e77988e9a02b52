"""Compare two builds of the world: bytes where no arithmetic is involved, figures within a tolerance elsewhere."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Prompts and tokenizer depend on the seed and on library versions only, not on floating point.
EXACT = ("prompts/*.jsonl", "**/tokenizer.json")
# Weights trained on another processor differ in their last bits, and training magnifies that; shares then move a few
# hundredths. This is wide enough for that and narrow enough to notice a category or an opinion that went wrong.
TRAINED_TOLERANCE = 0.08


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that must be the same everywhere, by its path relative to the folder."""
    files = sorted(path for pattern in EXACT for path in folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def shares(node: Any, path: str = "") -> Iterator[tuple[str, float, float]]:
    """Walk a card and yield every share as (path, share, standard error)."""
    if isinstance(node, dict):
        if "share" in node:
            yield path, node["share"], node["standard_error"]
        else:
            for key, value in node.items():
                yield from shares(value, f"{path}/{key}" if path else key)


def read_shares(folder: Path) -> dict[str, float]:
    """Read the shares of the card in a folder."""
    card = json.loads((folder / "world_card.json").read_text(encoding="utf-8"))
    return {path: value for path, value, _ in shares(card)}


def same_share(left: float, right: float) -> bool:
    """Tell whether two shares agree; NaN, nothing to count, agrees with itself only."""
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    return abs(left - right) <= TRAINED_TOLERANCE


def differences(shipped: Path, rebuilt: Path) -> list[str]:
    """Say how two builds differ.

    Args:
        shipped: Folder of the first.
        rebuilt: Folder of the second.

    Returns:
        One sentence per difference; empty if there is none.
    """
    found = []
    before, after = hashes(shipped), hashes(rebuilt)
    for name in sorted(before.keys() | after.keys()):
        ours, theirs = before.get(name, "absent"), after.get(name, "absent")
        if ours != theirs:
            found.append(f"{name} differs: SHA-256 {ours} here, {theirs} rebuilt.")
    if not (shipped / "world_card.json").exists():
        return [*found, f"world_card.json is missing in {shipped}."]
    old, new = read_shares(shipped), read_shares(rebuilt)
    for path in sorted(old.keys() | new.keys()):
        if path not in old or path not in new:
            found.append(f"{path} is only in one of the two cards.")
        elif not same_share(old[path], new[path]):
            found.append(f"{path} is {old[path]:.3f} here and {new[path]:.3f} rebuilt (tolerance {TRAINED_TOLERANCE}).")
    return found
