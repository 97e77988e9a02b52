"""What a run would leave on disk, at most: Parquet makes less of rollouts, and responses are seldom as long."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from laser_pl.data.prompts import prompt_ids
from laser_pl.forecast.models import Adapted
from laser_pl.forecast.setup import Setup
from laser_pl.forecast.work import Work

PROMPTS = 200
"""Whose text says how many bytes a token has."""
NUMBER = 36
"""Bytes of a score in JSON, with a name before it."""
FILE = 10_000
"""Bytes of a Parquet file beside its rows."""
CELL = 20
"""Bytes of a number in ``metrics.csv``."""


@dataclass(frozen=True)
class Files:
    """Files of one kind.

    Attributes:
        name: Their name in the run's folder.
        count: How many.
        size: Their bytes.
    """

    name: str
    count: int
    size: int


def at_most_kept(iterations: int, keep: int | None, ahead: int = 0) -> int:
    """Iterations whose rollouts lie on disk at a time: the one under way, those that are kept, and those sampled ahead.

    >>> at_most_kept(10, None), at_most_kept(10, 2), at_most_kept(10, 2, ahead=1)
    (10, 3, 4)
    """
    return iterations if keep is None else min(iterations, keep + 1 + ahead)


def files_of(setup: Setup, work: Work, base: Adapted, learned: int, optimizer: int) -> Iterator[Files]:
    """The files of a run at its end.

    Args:
        setup: The run.
        work: What it does.
        base: Its policy.
        learned: Bytes of the bandit's state.
        optimizer: Bytes of the optimizer's.
    """
    data, arms, n, length = setup.data, len(setup.selector.arms), work.n, setup.data.rollouts.max_new_tokens
    texts = [prompt.text for prompt in data.prompts["train"][:PROMPTS]]
    tokens = sum(len(prompt_ids(text, setup.policy.tokenizer)) for text in texts)
    text = sum(len(text.encode()) for text in texts)
    response = length * (4 + text / max(tokens, 1))  # its ids in int32, and what they say
    context = 4 * base.skeleton.config.get_text_config().hidden_size
    prompt = 3 * text / len(texts) + context + n * (response + 8)  # asked, read, and as ids; log-probabilities
    iterations = work.iterations or 1
    kept, sampled = at_most_kept(iterations, setup.keep_iterations, data.staleness), work.sampled / iterations
    chunks = math.ceil(sampled / data.rollout_batch_size)
    yield Files("rollouts/", kept * chunks, round(kept * (sampled * prompt + chunks * FILE)))
    adapter = base.adapter.size or 0
    yield Files("checkpoints/last.ckpt", 1, adapter + optimizer + learned)
    yield Files("adapter/", 3, adapter)
    pairs = setup.selector.pairs.per_prompt if setup.policy.objective.needs != "scores" else 0
    scored = (n + pairs + 5) * NUMBER  # a line about a prompt: scores, pairs, and whose they are
    yield Files("selection.jsonl", 1, work.steps * setup.decisions * (2 * arms + 12) * NUMBER + work.trained * NUMBER)
    yield Files("pairs.jsonl", 1, work.trained * scored)
    judged = min(60 * iterations, 240, work.trained)
    yield Files("judged.jsonl", 1, round(judged * (scored + prompt)))
    rows = work.steps + 2  # and the names of columns, which are longer than numbers
    yield Files("metrics.csv", 1, rows * CELL * (12 + 3 * arms))
