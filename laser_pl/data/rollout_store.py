"""Rollouts on disk: one Parquet file per chunk, written as it is produced, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from laser_pl.run.files import reading, writing
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

    def write(
        self, chunk: int, prompts: PromptBatch, responses: Responses, contexts: Tensor, reference_logprobs: Tensor
    ) -> None:
        """Write one chunk; it appears under its name only when it is complete and on disk."""
        with writing(self.path(chunk), self.folder.parents[1]) as file:
            write_rows(rows_of(prompts, responses, contexts, reference_logprobs), file, self.origin or {})

    def read(self, chunk: int) -> list[Row]:
        """The rows of one chunk, as they were written.

        Raises:
            ConfigurationError: If the file is not there, is none of ours, or was made with other weights or another
                tokenizer.
        """
        try:
            with reading(self.path(chunk), self.folder.parents[1]) as file, memory_for(file):
                table = pq.read_table(file, schema=_SCHEMA, use_threads=False)
                rows: list[Row] = table.to_pylist()
                noted = pq.read_schema(file).metadata or {}
        except ConfigurationError:
            raise
        except (OSError, ValueError, OverflowError, MemoryError, pa.ArrowException) as error:
            raise ConfigurationError(
                f"{self.path(chunk)} cannot be read as the rollouts it should hold ({' '.join(str(error).split())})."
                " Put it back, or start a new run."
            ) from error
        if any(row["prompt_tokens"] is None for row in rows):
            raise ConfigurationError(
                f"{self.path(chunk)} does not say how its prompts were read: an older version wrote it. Go on with that"
                " one, or start a new run."
            )
        if not all(map(_is_whole, rows)):
            raise ConfigurationError(
                f"{self.path(chunk)} holds rows that no run wrote: texts, tokens and numbers of a prompt's responses"
                " are not as many, or some are missing. Put it back, or start a new run."
            )
        if self.origin is not None:
            made_with = {name.decode(): value.decode() for name, value in noted.items() if name.decode() in self.origin}
            refuse_other_origin(made_with, self.origin, str(self.path(chunk)), self.weights)
        return rows


def _is_whole(row: Row) -> bool:
    """Whether a row says everything of each response."""
    lists = [row[name] for name in ("responses", "tokens", "finished", "reference_logprobs")]
    if not all(isinstance(one, list) and len(one) == len(row["responses"] or ()) and None not in one for one in lists):
        return False
    ids = [row["prompt_tokens"], *row["tokens"]]
    texts = row["prompt_id"], row["category"], row["text"]
    return (
        all(isinstance(text, str) for text in texts)
        and all(id_ is not None and id_ >= 0 for one in ids for id_ in one)
        and bool(row["context"])
        and None not in row["context"]
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


def rows_of(prompts: PromptBatch, responses: Responses, contexts: Tensor, reference_logprobs: Tensor) -> list[Row]:
    """What is stored of some prompts and of what was answered to them."""
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
            "reference_logprobs": reference_logprobs[row].tolist(),
            "context": contexts[row].tolist(),
        }
        for row, prompt in enumerate(prompts.prompts)
    ]


def write_rows(rows: Sequence[Row], file: BinaryIO, origin: Origin) -> None:
    """Write rows as Parquet, and what they were made with."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=_SCHEMA.with_metadata(dict(origin))), file)


def rollout_batch(prompts: Sequence[Prompt], rows: Sequence[Row], pad_id: int, iteration: int) -> RolloutBatch:
    """Stored rows as a training batch.

    Text and tokens of the prompts are the stored ones, which the reference log-probabilities are of: a template may
    write something else today.

    Args:
        prompts: The prompts of the rows, in the same order.
        rows: What the store holds of each.
        pad_id: The id that fills up short responses.
        iteration: The iteration that wrote them.
    """
    ids = [row["tokens"] for row in rows]
    width = max(len(response) for responses in ids for response in responses)
    lengths = torch.tensor([[len(response) for response in responses] for responses in ids])  # (B, n)
    tokens = torch.tensor([[[*response, *[pad_id] * (width - len(response))] for response in r] for r in ids])
    mask = (torch.arange(width) < lengths[..., None]).long()  # (B, n, T)
    finished = torch.tensor([row["finished"] for row in rows])
    read = [replace(prompt, text=row["text"]) for prompt, row in zip(prompts, rows, strict=True)]
    return RolloutBatch(
        prompts=padded(read, [row["prompt_tokens"] for row in rows], pad_id),
        responses=Responses(tokens, mask, finished, [row["responses"] for row in rows]),
        contexts=torch.tensor([row["context"] for row in rows]),
        reference_logprobs=torch.tensor([row["reference_logprobs"] for row in rows], dtype=torch.float64),
        iteration=iteration,
    )
