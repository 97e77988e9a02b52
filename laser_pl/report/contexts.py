"""The contexts that the bandit saw, made again from the stored rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import pyarrow.parquet as pq
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from laser_pl.bandits.context import ContextPreparation
from laser_pl.batches import question_of
from laser_pl.data.rollout_store import asked
from laser_pl.errors import ConfigurationError
from laser_pl.report.records import Line, RunRecords
from laser_pl.run.files import reading
from laser_pl.run.named_code import nothing_of_its_own, refuse_code

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """A decision with what it was made from.

    Attributes:
        decision: The line of ``selection.jsonl``.
        context: As the bandit saw it. Shape ``(d,)``, float64.
        texts: What the prompts ask, without the template that all have.
    """

    decision: Line
    context: Tensor
    texts: Sequence[str]


def part(records: RunRecords, name: str, kind: type[T], trusted: bool = False) -> T:
    """A part of ``selection``, made from the run's configuration as it was for the run.

    Args:
        records: Of the run.
        name: The part's name, such as ``bandit``.
        kind: What it is.
        trusted: Whether a class of the run's own may be it.

    Raises:
        ConfigurationError: If the configuration names a class of its own, or none that can be made.
    """
    config = records.config.get("selection")
    settings = config.get(name) if isinstance(config, dict) else None
    if not trusted:
        refuse_code({f"selection.{name}": settings}, str(records.folder.config))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, name, required=True)
    try:
        with nullcontext() if trusted else nothing_of_its_own():
            made: T = parser.instantiate(parser.parse_object({name: settings}))[name]
    except Exception as error:  # whatever the parser says, or a constructor
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{records.folder.config}: selection.{name} cannot be made ({reason}).") from error
    return made


def contexts_of(records: RunRecords, trusted: bool = False) -> Iterator[list[Seen]]:
    """Every step's decisions with their contexts, in the order in which they were made.

    The preparation's running mean takes every iteration's rollouts in at its start, as it did in the run.

    Args:
        records: Of the run.
        trusted: Whether the class that prepares them may be the run's own.

    Raises:
        ConfigurationError: If an iteration's rollouts are not there, or are other prompts'.
    """
    preparation = part(records, "context", ContextPreparation, trusted)
    for iteration, lines in groupby(records.decisions, key=lambda line: int(line["iteration"])):
        rows = _rollouts(records, iteration)
        preparation.observe(rows.hidden)
        start = 0
        for _, group in groupby(lines, key=lambda line: int(line["step"])):
            decisions = list(group)
            end = start + sum(len(line["prompt_ids"]) for line in decisions)
            yield _seen(decisions, rows, range(start, end), preparation)
            start = end


@dataclass(frozen=True)
class _Rollouts:
    """An iteration's prompts: ids, texts, and hidden states ``(B, hidden size)``, float32."""

    ids: list[str]
    texts: list[str]
    hidden: Tensor


def _seen(
    decisions: Sequence[Line], rollouts: _Rollouts, rows: Sequence[int], preparation: ContextPreparation
) -> list[Seen]:
    place = {rollouts.ids[row]: row for row in rows if row < len(rollouts.ids)}
    try:
        own = [[place[id_] for id_ in line["prompt_ids"]] for line in decisions]
    except KeyError as error:
        raise ConfigurationError(
            f"The rollouts do not hold prompt {error}, which step {decisions[0]['step']} of selection.jsonl judged. The"
            " folder's files are not one run's."
        ) from error
    contexts = preparation.prepare(torch.stack([rollouts.hidden[group].mean(0) for group in own]))
    return [
        Seen(line, context, [rollouts.texts[row] for row in group])
        for line, context, group in zip(decisions, contexts, own, strict=True)
    ]


def _rollouts(records: RunRecords, iteration: int) -> _Rollouts:
    folder = records.folder.rollouts(iteration)
    files = sorted(folder.glob("chunk-*.parquet"))
    if not files:
        raise ConfigurationError(f"There are no rollouts in '{folder}', from which the contexts are made again.")
    ids: list[str] = []
    texts: list[str] = []
    hidden = []
    for path in files:
        with reading(path, records.folder.path) as file:
            stored = pq.ParquetFile(file)
            own = ["prompt"] if "prompt" in stored.schema_arrow.names else []
            table = stored.read(["prompt_id", "text", "context", *own], use_threads=False)
        ids += table["prompt_id"].to_pylist()
        read = table["text"].to_pylist()
        prompts = table["prompt"].to_pylist() if own else [None] * len(read)
        texts += [question_of(asked(prompt, text)) for prompt, text in zip(prompts, read, strict=True)]
        # As one array: lists of Python's numbers would take ten times the memory.
        numbers = torch.tensor(table["context"].combine_chunks().flatten().to_numpy())
        hidden.append(numbers.view(len(table), -1))
    return _Rollouts(ids, texts, torch.cat(hidden))
