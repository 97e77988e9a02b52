"""The command line of a world's build: make it, or check that what is on disk is what the seed makes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from comparison import differences


def build_or_check(
    build: Callable[[Path, int], dict[str, Any]], folder: Path, world: str, args: list[str] | None = None
) -> int:
    """Build a world, or check the one on disk.

    Args:
        build: From a folder and a seed to the card of the world that it writes there.
        folder: Where the world lies unless ``--out`` says otherwise.
        world: What to call it.
        args: Command line; ``None`` takes the process's.

    Returns:
        Exit status: 1 if ``--check`` found a difference.
    """
    parser = argparse.ArgumentParser(description=f"Build {world} from a seed.")
    parser.add_argument("--seed", type=int, default=0, help="fixes everything (default: 0)")
    parser.add_argument("--out", type=Path, default=folder, help="folder to write into, or to check (default: its own)")
    parser.add_argument("--check", action="store_true", help="build into a temporary folder and compare with --out")
    options = parser.parse_args(args)
    torch.set_num_threads(1)  # at this size a second thread costs more than it gives, and one is reproducible
    transformers.utils.logging.disable_progress_bar()
    if not options.check:
        card = build(options.out, options.seed)
        print(f"Built {options.out} in {card['build_seconds']} s; read WORLD.md there.")
        return 0
    with tempfile.TemporaryDirectory() as again:
        build(Path(again), options.seed)
        found = differences(options.out, Path(again))
    print("\n".join(found) if found else f"{options.out} is what seed {options.seed} makes.")
    return 1 if found else 0
