"""How long the responses of an earlier run were, where there is one that sampled from the same policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laser_pl.run.bounds import memory_for
from laser_pl.run.files import reading
from laser_pl.run.folder import RunFolder


@dataclass(frozen=True)
class Earlier:
    """What an earlier run sampled.

    Attributes:
        folder: Its folder.
        responses: How many responses its rollouts hold.
        tokens: How many tokens those have.
    """

    folder: Path
    responses: int
    tokens: int

    @property
    def length(self) -> float:
        """Tokens of a response, EOS included."""
        return self.tokens / self.responses


def earlier_run(runs_dir: str, name: str, sampled: tuple[Any, ...]) -> Earlier | None:
    """The newest run of a name that sampled likewise and left rollouts; None if there is none.

    Args:
        runs_dir: Where runs' folders lie.
        name: The name.
        sampled: What ``how_sampled`` says of the run to come.
    """
    for path in sorted(Path(runs_dir).glob("*"), key=lambda path: path.stat().st_mtime, reverse=True):
        if path.name != name and not (
            path.name.startswith(f"{name}-") and path.name.removeprefix(f"{name}-").isdigit()
        ):
            continue
        try:
            config = RunFolder(path).read_config()
            if how_sampled(config) != sampled:
                continue
            counts = [_lengths(file) for file in _chunks(path)]
        except (OSError, ValueError, TypeError, KeyError, MemoryError, pa.ArrowException):
            continue  # whatever it is, it is no run that could tell
        responses = sum(count for count, _ in counts)
        if responses:
            return Earlier(path, responses, sum(tokens for _, tokens in counts))
    return None


def how_sampled(config: Any) -> tuple[Any, ...]:
    """What of a configuration decides how long responses are: the policy, and how it is sampled."""
    rollouts = config["data"]["rollouts"]
    return (config["model"]["weights"]["name"], *(rollouts[key] for key in ("temperature", "top_p", "max_new_tokens")))


def _chunks(path: Path) -> Iterator[Path]:
    return (path / "rollouts").glob("iteration-*/chunk-*.parquet")


def _lengths(file: Path) -> tuple[int, int]:
    """Responses in a chunk, and their tokens."""
    with reading(file, file.parents[2]) as opened, memory_for(opened):
        column = pq.read_table(opened, columns=["tokens"], use_threads=False)["tokens"]
    lengths = pc.list_value_length(pc.list_flatten(column))
    return len(lengths), int(pc.sum(lengths).as_py() or 0)
