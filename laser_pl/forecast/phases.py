"""What every phase of an iteration needs beside weights, found on paper."""

from __future__ import annotations

from laser_pl.forecast.models import Adapted
from laser_pl.forecast.paper import Paper
from laser_pl.forecast.peaks import Question, reading, sampling
from laser_pl.forecast.phase import Phase, largest, tried
from laser_pl.forecast.scoring import scoring
from laser_pl.forecast.setup import Setup
from laser_pl.generation import TransformersEngine
from laser_pl.logprobs.packed import why_not_by_configuration


def phases(setup: Setup, adapted: Adapted) -> list[Phase]:
    """The phases of an iteration, for the longest prompts with the longest responses.

    What an engine elsewhere needs to sample is not among them.

    A step's gradients are in its peak; where batches are accumulated, or one is read in several groups, those that are
    there already come on top.
    """
    policy, data = setup.policy, setup.data
    paper = Paper(adapted.skeleton, setup.autocast)
    attention = why_not_by_configuration(adapted.skeleton.get_base_model()) is None
    sharing = attention and policy.share_prompts and not policy.gradient_checkpointing
    rollouts, n, budget = data.rollouts, data.rollouts.n, policy.tokens_per_forward
    chunk = setup.heads("train", data.rollout_batch_size)
    batch = setup.heads("train", -(-data.batch_size // setup.processes))
    read = Question(chunk, n, rollouts.max_new_tokens)
    used = n if policy.objective.needs == "scores" else setup.selector.pairs.most_used(n)
    trained = Question(batch, used, rollouts.max_new_tokens)
    several = len(trained.groups(budget, sharing)) > 1 or setup.trainer.accumulate_grad_batches > 1
    standing = (adapted.adapter.size or 0) if several else 0
    here = isinstance(policy.engine, TransformersEngine)
    written = [tried("", attention, lambda shared: sampling(paper, chunk, rollouts, shared))] if here else []
    found = [
        largest(
            "rollouts",
            *written,
            tried("", sharing, lambda shared: reading(paper, read, budget, shared, training=False)),
        ),
        scoring(setup),
        tried("training", sharing, lambda shared: standing + reading(paper, trained, budget, shared, training=True)),
    ]
    evaluated = max((split for split in ("validation", "test") if data.graded(split)),
                    key=lambda split: setup.heads(split, 1), default=None)  # fmt: skip
    if here and evaluated is not None:
        heads = setup.heads(evaluated, data.evaluation_batch_size)
        found.insert(
            0, tried("evaluation", attention, lambda shared: sampling(paper, heads, policy.evaluation, shared))
        )
    return found
