"""Rollouts on disk: one Parquet file per chunk, written as it is produced, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from laser_pl.batches import Message, Prompt, PromptBatch, Responses, RolloutBatch
from laser_pl.data.prompts import padded
from laser_pl.errors import ConfigurationError
from laser_pl.run.bounds import memory_for
from laser_pl.run.files import entered, reading, writing
from laser_pl.run.origin import Origin, refuse_other_origin

Row = dict[str, Any]

_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("category", pa.string()),
        ("text", pa.string()),
        ("prompt", pa.string()),  # as JSON, a text or messages; null where an older version wrote it
        ("prompt_tokens", pa.list_(pa.int32())),
        ("responses", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.list_(pa.int32()))),
        ("finished", pa.list_(pa.bool_())),
        ("reference_logprobs", pa.list_(pa.float64())),
        ("context", pa.list_(pa.float32())),
    ]
)


class RolloutStore:
    """One iteration's rollouts.

    A chunk may lie there before its iteration begins: prompts and responses, sampled ahead by the policy of the
    iteration before. Its contexts and reference log-probabilities are not known until then, and are null.

    Args:
        folder: ``runs/<name>/rollouts/iteration-000``.
        origin: What they are made with, which lies in each file; None for a reader who does not care.
        weights: The name of the weights, for messages.
    """

    def __init__(self, folder: Path, origin: Origin | None = None, weights: str = "") -> None:
        self.folder = folder
        self.origin = origin
        self.weights = weights

    def path(self, chunk: int) -> Path:
        """Where a chunk lies."""
        return self.folder / f"chunk-{chunk:05d}.parquet"

    def ahead(self, chunk: int) -> Path:
        """Where what was sampled ahead of a chunk lies."""
        return self.folder / f"ahead-{chunk:05d}.parquet"

    def write(
        self, chunk: int, prompts: PromptBatch, responses: Responses, contexts: Tensor, reference_logprobs: Tensor
    ) -> None:
        """Write one chunk; it appears under its name only when it is complete and on disk."""
        self._write(self.path(chunk), rows_of(prompts, responses, contexts, reference_logprobs))

    def write_ahead(self, chunk: int, prompts: PromptBatch, responses: Responses) -> None:
        """Write what was sampled ahead of one, in the same way."""
        self._write(self.ahead(chunk), rows_of(prompts, responses, None, None))

    def _write(self, path: Path, rows: list[Row]) -> None:
        with writing(path, self.folder.parents[1]) as file:
            write_rows(rows, file, self.origin or {})

    def discard_ahead(self, chunk: int) -> None:
        """Remove what was sampled ahead of a chunk, if it is there."""
        path = self.ahead(chunk)
        if path.is_file():
            with entered(self.folder, self.folder.parents[1]) as folder:
                os.unlink(path.name, dir_fd=folder)

    def read(self, chunk: int) -> list[Row]:
        """The rows of one chunk, as they were written.

        Raises:
            ConfigurationError: If the file is not there, is none of ours, or was made with other weights or another
                tokenizer.
        """
        return self._read(self.path(chunk), _is_whole)

    def read_ahead(self, chunk: int) -> list[Row]:
        """The rows of what was sampled ahead of one, in the same way."""
        return self._read(self.ahead(chunk), _is_sampled)

    def _read(self, path: Path, is_whole: Callable[[Row], bool]) -> list[Row]:
        try:
            with reading(path, self.folder.parents[1]) as file, memory_for(file):
                table = pq.read_table(file, schema=_SCHEMA, use_threads=False)
                rows: list[Row] = table.to_pylist()
                noted = pq.read_schema(file).metadata or {}
        except ConfigurationError:
            raise
        except (OSError, ValueError, OverflowError, MemoryError, pa.ArrowException) as error:
            raise ConfigurationError(
                f"{path} cannot be read as the rollouts it should hold ({' '.join(str(error).split())})."
                " Put it back, or start a new run."
            ) from error
        if any(row["prompt_tokens"] is None for row in rows):
            raise ConfigurationError(
                f"{path} does not say how its prompts were read: an older version wrote it. Go on with that"
                " one, or start a new run."
            )
        if not all(map(is_whole, rows)):
            raise ConfigurationError(
                f"{path} holds rows that no run wrote: texts, tokens and numbers of a prompt's responses"
                " are not as many, or some are missing. Put it back, or start a new run."
            )
        if self.origin is not None:
            made_with = {name.decode(): value.decode() for name, value in noted.items() if name.decode() in self.origin}
            refuse_other_origin(made_with, self.origin, str(path), self.weights)
        return rows


def _is_sampled(row: Row) -> bool:
    """Whether a row says everything of each response that is known when it is sampled."""
    lists = [row[name] for name in ("responses", "tokens", "finished")]
    if not all(isinstance(one, list) and len(one) == len(row["responses"] or ()) and None not in one for one in lists):
        return False
    ids = [row["prompt_tokens"], *row["tokens"]]
    texts = row["prompt_id"], row["category"], row["text"]
    return all(isinstance(text, str) for text in texts) and all(
        id_ is not None and id_ >= 0 for one in ids for id_ in one
    )


def _is_whole(row: Row) -> bool:
    """Whether it says what the policy of its iteration makes of it as well."""
    logprobs, context = row["reference_logprobs"], row["context"]
    return (
        _is_sampled(row)
        and isinstance(logprobs, list)
        and len(logprobs) == len(row["responses"])
        and bool(context)
        and None not in (*logprobs, *context)
    )


def asked(prompt: str | None, text: str) -> str | list[Message]:
    """The row's own prompt, without the template; the whole text where that is not known.

    Args:
        prompt: As a row has it, perhaps anybody's.
        text: What the policy read.

    >>> asked('[{"role": "user", "content": "1+1?"}]', "User: 1+1?"), asked(None, "User: 1+1?")
    ([{'role': 'user', 'content': '1+1?'}], 'User: 1+1?')
    """
    try:
        found: Any = None if prompt is None else json.loads(prompt)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, str):
        return found
    if not isinstance(found, list) or not found or not all(map(_is_message, found)):
        return text
    return [{"role": turn["role"], "content": turn["content"]} for turn in found]


def _is_message(turn: Any) -> bool:
    return isinstance(turn, dict) and all(isinstance(turn.get(name), str) for name in ("role", "content"))


def rows_of(
    prompts: PromptBatch, responses: Responses, contexts: Tensor | None, reference_logprobs: Tensor | None
) -> list[Row]:
    """What is stored of some prompts and of what was answered to them; None is not known yet."""
    lengths = responses.mask.sum(-1).tolist()
    tokens, read = responses.tokens.tolist(), prompts.ids()
    return [
        {
            "prompt_id": prompt.id,
            "category": prompt.category,
            "text": prompt.text,
            "prompt": json.dumps(prompt.prompt, ensure_ascii=False),
            "prompt_tokens": read[row],
            "responses": list(responses.texts[row]),
            "tokens": [ids[:length] for ids, length in zip(tokens[row], lengths[row], strict=True)],
            "finished": responses.finished[row].tolist(),
            "reference_logprobs": None if reference_logprobs is None else reference_logprobs[row].tolist(),
            "context": None if contexts is None else contexts[row].tolist(),
        }
        for row, prompt in enumerate(prompts.prompts)
    ]


def write_rows(rows: Sequence[Row], file: BinaryIO, origin: Origin) -> None:
    """Write rows as Parquet, and what they were made with."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=_SCHEMA.with_metadata(dict(origin))), file)


def sampled(prompts: Sequence[Prompt], rows: Sequence[Row], pad_id: int) -> tuple[PromptBatch, Responses]:
    """What was answered to prompts, from stored rows.

    Text and tokens of the prompts are the stored ones, which were answered: a template may write something else today.

    Args:
        prompts: The prompts of the rows, in the same order.
        rows: What the store holds of each.
        pad_id: The id that fills up short responses.
    """
    ids = [row["tokens"] for row in rows]
    width = max(len(response) for responses in ids for response in responses)
    lengths = torch.tensor([[len(response) for response in responses] for responses in ids])  # (B, n)
    tokens = torch.tensor([[[*response, *[pad_id] * (width - len(response))] for response in r] for r in ids])
    mask = (torch.arange(width) < lengths[..., None]).long()  # (B, n, T)
    finished = torch.tensor([row["finished"] for row in rows])
    read = [replace(prompt, text=row["text"]) for prompt, row in zip(prompts, rows, strict=True)]
    answered = padded(read, [row["prompt_tokens"] for row in rows], pad_id)
    return answered, Responses(tokens, mask, finished, [row["responses"] for row in rows])


def rollout_batch(prompts: Sequence[Prompt], rows: Sequence[Row], pad_id: int, iteration: int) -> RolloutBatch:
    """Stored rows as a training batch.

    Args:
        prompts: As of ``sampled``.
        rows: As there.
        pad_id: As there.
        iteration: The iteration that wrote them.
    """
    answered, responses = sampled(prompts, rows, pad_id)
    return RolloutBatch(
        prompts=answered,
        responses=responses,
        contexts=torch.tensor([row["context"] for row in rows]),
        reference_logprobs=torch.tensor([row["reference_logprobs"] for row in rows], dtype=torch.float64),
        iteration=iteration,
    )
