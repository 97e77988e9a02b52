"""What a run would leave on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle, islice
from typing import Any

import torch

from laser_pl.batches import Prompt, Responses
from laser_pl.data.plan import split_every
from laser_pl.data.prompts import padded, prompt_ids
from laser_pl.data.rollout_store import rows_of, write_rows
from laser_pl.forecast.models import Adapted
from laser_pl.forecast.setup import Setup
from laser_pl.forecast.work import Work
from laser_pl.generation.text import text_of
from laser_pl.selection.decision import Decision

SAMPLED_TOKENS = 200_000
"""Tokens that are written to memory to see how small Parquet makes them."""
SCORE = -0.36391706302464333
"""A number as JSON has it."""


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


def rollout_bytes(prompts: Sequence[Prompt], tokenizer: Any, n: int, length: float, context_size: int) -> float:
    """Bytes of one prompt's rollouts in Parquet, told by writing a chunk to memory.

    What the policy will say is not known; pieces of the prompts stand in for it, since they are text of the same kind
    in the same tokens.

    Args:
        prompts: Those of one chunk.
        tokenizer: The policy's.
        n: Responses to each.
        length: Tokens of each response, on average.
        context_size: Size of a hidden state.
    """
    kept = max(1, min(len(prompts), int(SAMPLED_TOKENS / (n * length))))
    prompts, rows = prompts[:kept], kept * n
    read = [prompt_ids(prompt.text, tokenizer) for prompt in prompts]
    text = [token for ids in read for token in ids]
    width = math.ceil(length)
    lengths = torch.tensor([int((row + 1) * length) - int(row * length) for row in range(rows)])  # (R,)
    ids = torch.tensor(list(islice(cycle(text), rows * width))).view(rows, width)
    # From row to row the pieces begin elsewhere, also where the text is short.
    ids = torch.stack([own.roll(row) for row, own in enumerate(ids)]) if len(text) % width == 0 else ids
    mask = (torch.arange(width) < lengths[:, None]).long()
    texts = [text_of(tokenizer, own[:size]) for own, size in zip(ids.tolist(), lengths.tolist(), strict=True)]
    responses = Responses(
        ids.view(kept, n, width),
        mask.view(kept, n, width),
        torch.ones(kept, n, dtype=torch.bool),
        [texts[row : row + n] for row in range(0, rows, n)],
    )
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(kept, context_size, generator=generator)
    logprobs = torch.randn(kept, n, generator=generator).double()
    file = BytesIO()
    batch = padded(prompts, read, tokenizer.pad_token_id)
    write_rows(rows_of(batch, responses, contexts, logprobs), file, {})
    return file.tell() / kept


def decision_bytes(arms: Sequence[str], prompts: int) -> int:
    """Bytes of a line of ``selection.jsonl`` about so many prompts."""
    each = dict.fromkeys(arms, SCORE)
    one = {arms[0]: SCORE}
    decision = Decision(
        iteration=1, step=1000, prompt_ids=["0" * 16] * prompts, category="category", arm=arms[0], passed_over=[],
        mean=each, bonus=each, pairs=100, prompts_without_pairs=1, forbidden={}, reward_model_seconds=SCORE,
        reward_model_forwards={arms[0]: 100}, missing={}, loss=SCORE, parts={"dpo": SCORE, "nll": SCORE}, observed=one,
        reward=one,
    )  # fmt: skip
    return len(json.dumps(decision.as_dict())) + 1


def pair_bytes(arms: Sequence[str], n: int, pairs: int) -> int:
    """Bytes of a line of ``pairs.jsonl``."""
    line = {"iteration": 1, "step": 1000, "prompt_id": "0" * 16, "arm": arms[0], "scores": [SCORE] * n,
            "pairs": [[1, 2]] * pairs}  # fmt: skip
    return len(json.dumps(line)) + 1


def judged_bytes(arms: Sequence[str], n: int, pairs: int, characters: float) -> int:
    """Bytes of a line of ``judged.jsonl``, whose prompt and responses have so many characters each."""
    line = {
        "iteration": 1, "step": 1000, "prompt_id": "0" * 16, "category": "category", "prompt": "", "answer": "answer",
        "arm": arms[0], "responses": [""] * n, "right": [True] * n, "finished": [True] * n, "lengths": [100] * n,
        "scores": {arms[0]: [SCORE] * n}, "pairs": [[1, 2]] * pairs,
    }  # fmt: skip
    return len(json.dumps(line)) + 1 + round((n + 1) * characters)


def metrics_bytes(arms: int) -> int:
    """Bytes of a row of ``metrics.csv``: a dozen columns and three for each arm, 13 characters a cell."""
    return 13 * (12 + 3 * arms)


def at_most_kept(iterations: int, keep: int | None) -> int:
    """Iterations whose rollouts lie on disk at a time: the one under way, and those that are kept.

    >>> at_most_kept(10, None), at_most_kept(10, 2)
    (10, 3)
    """
    return iterations if keep is None else min(iterations, keep + 1)


def files_of(setup: Setup, work: Work, base: Adapted, learned: int, optimizer: int) -> Iterator[Files]:
    """The files of a run at its end.

    Args:
        setup: The run.
        work: What it does.
        base: Its policy.
        learned: Bytes of the bandit's state.
        optimizer: Bytes of the optimizer's.
    """
    data, arms, n = setup.data, list(setup.selector.arms), work.n
    paired = setup.policy.objective.needs != "scores"
    pairs = min(setup.selector.pairs.per_prompt, n * (n - 1) // 2) if paired else 0
    chunks = split_every([prompt for batch in data.plan(0) for prompt in batch], data.rollout_batch_size)
    hidden = base.skeleton.config.get_text_config().hidden_size
    each = rollout_bytes(chunks[0], setup.policy.tokenizer, n, setup.response_length, hidden)
    iterations = work.iterations or 1
    kept = at_most_kept(iterations, setup.keep_iterations)
    chunks_of_one = math.ceil(work.sampled / iterations / data.rollout_batch_size)
    yield Files("rollouts/", kept * chunks_of_one, round(work.sampled / iterations * kept * each))
    adapter = base.adapter.size or 0
    yield Files("checkpoints/last.ckpt", 1, adapter + optimizer + learned)
    yield Files("adapter/", 3, adapter)
    decisions = work.steps * setup.decisions
    per_decision = decision_bytes(arms, round(data.batch_size / setup.decisions))
    yield Files("selection.jsonl", 1, decisions * per_decision)
    yield Files("pairs.jsonl", 1, work.trained * pair_bytes(arms, n, pairs))
    characters = sum(len(prompt.text) for prompt in chunks[0]) / len(chunks[0])
    judged = min(60 * iterations, 240, work.trained)
    yield Files("judged.jsonl", 1, judged * judged_bytes(arms, n, pairs, characters))
    yield Files("metrics.csv", 1, work.steps * metrics_bytes(len(arms)))
