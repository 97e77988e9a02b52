"""A few prompts of an iteration that every reward model scores, only to see how alike they judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laser_pl.batches import RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.run.pair_record import plain
from laser_pl.runtime.seeds import derive_seed
from laser_pl.selection.panel import Panel


def count_of_probes(count: int) -> int:
    """How many prompts are asked about, as it was set.

    Raises:
        ConfigurationError: If it is negative.
    """
    if count < 0:
        raise ConfigurationError(
            f"agreement_probe must be >= 0, got {count}. Set selection.agreement_probe in the config."
        )
    return count


def probe(
    batches: Sequence[RolloutBatch],
    count: int,
    seed: int,
    arms: Sequence[str],
    panel: Panel,
) -> list[dict[str, Any]]:
    """Ask all arms about some prompts from anywhere in an iteration, one after the other, so that each is loaded once.

    Nothing is decided or learned by it: who fails here is not put aside for it. Forwards and seconds are counted.

    Args:
        batches: Of the iteration.
        count: How many prompts; fewer if there are fewer.
        seed: Root of the choice of prompts.
        arms: Whom to ask; those that are aside are not.
        panel: Asks them, in each process about its own share of the prompts.

    Returns:
        Lines of ``agreement.jsonl`` without their step: iteration, prompt and scores by arm.
    """
    every = [(batch, row) for batch, one in enumerate(batches) for row in range(len(one))]
    iteration = batches[0].iteration
    chosen = sorted(every, key=lambda place: derive_seed(seed, "agreement", iteration, *place))[:count]
    prompts = [batches[batch].prompts.prompts[row] for batch, row in chosen]
    responses = [batches[batch].responses.texts[row] for batch, row in chosen]
    lines: list[dict[str, Any]] = [
        {"iteration": iteration, "prompt_id": prompt.id, "category": prompt.category, "scores": {}}
        for prompt in prompts
    ]
    for name in arms:
        if panel.pool.health.may_be_asked(name):
            for line, labels in zip(lines, panel.survey(name, prompts, responses), strict=True):
                line["scores"][name] = plain(labels)
    return lines
