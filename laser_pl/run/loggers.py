"""Small things around Lightning's loggers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

SAMPLE_COLUMNS = (
    "iteration", "step", "category", "prompt", "answer", "arm", "response", "score", "chosen", "rejected", "right"
)  # fmt: skip


def go_offline_without_key() -> None:
    """Let W&B write to disk where nobody is logged in, instead of asking; ``WANDB_MODE`` overrules."""
    if "WANDB_API_KEY" not in os.environ and not _has_netrc():
        os.environ.setdefault("WANDB_MODE", "offline")


def _has_netrc() -> bool:
    return any(os.path.exists(os.path.expanduser(path)) for path in ("~/.netrc", "~/_netrc"))


def log_end(loggers: Sequence[Logger], summary: Mapping[str, Any], judged: Path) -> None:
    """Give W&B what other loggers have no place for: ``summary.json``, and the sample of judged responses as a table.

    Args:
        loggers: The trainer's.
        summary: What stands in ``summary.json``.
        judged: ``judged.jsonl``.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({"summary": dict(summary)})
            lines = judged.read_text(encoding="utf-8").splitlines() if judged.exists() else []
            rows = list(sample_rows(json.loads(line) for line in lines))
            logger.log_table("judged", columns=list(SAMPLE_COLUMNS), data=rows)


def sample_rows(judged: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """One row of ``SAMPLE_COLUMNS`` for each response in lines of ``judged.jsonl``.

    ``score`` is that of the arm that judged; ``chosen`` and ``rejected`` count the pairs in which the response is.
    Chats and answers become text, since a column of a table has one type.
    """
    for line in judged:
        prompt = line["prompt"] if isinstance(line["prompt"], str) else json.dumps(line["prompt"], ensure_ascii=False)
        right = line["right"] or [None] * len(line["responses"])
        for number, response in enumerate(line["responses"]):
            yield [
                line["iteration"],
                line["step"],
                line["category"],
                prompt,
                line["answer"],
                line["arm"],
                response,
                line["scores"][line["arm"]][number],
                sum(chosen == number for chosen, _ in line["pairs"]),
                sum(rejected == number for _, rejected in line["pairs"]),
                right[number],
            ]
