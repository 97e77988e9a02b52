"""What a run would do: iterations, steps, tokens to generate and reward-model forwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning.pytorch import Trainer

from laser_pl.batches import Prompt
from laser_pl.data.datamodule import PreferenceData
from laser_pl.feedback.signals.base import Signal
from laser_pl.rewards.base import RewardModel

ITERATIONS = 1000
"""How many are gone through one by one; of more, those that follow count as these do on average."""


@dataclass(frozen=True)
class Iteration:
    """One iteration.

    Attributes:
        batches: Prompts of each training step.
        sampled: Prompts that are answered.
        polled: Prompts on which all reward models are asked at most.
    """

    batches: Sequence[int]
    sampled: int
    polled: int


@dataclass(frozen=True)
class Work:
    """Counts of a whole run.

    Attributes:
        prompts: Prompts by split.
        used: Prompts of an iteration.
        iterations: How many; None for a run without an end, whose counts are those of one iteration.
        steps: Training steps, one for each batch.
        optimizer_steps: Of them, those that change weights.
        sampled: Prompts that are answered for training.
        trained: Prompts in training steps.
        polled: Prompts on which the signal asks all reward models at most.
        evaluations: Prompts that are answered in validation and test.
        n: Responses to each prompt.
        evaluation_n: Responses to each prompt in evaluation, the greedy one included.
        longest: Tokens of a response at most, in training and in evaluation.
    """

    prompts: dict[str, int]
    used: int
    iterations: int | None
    steps: int
    optimizer_steps: int
    sampled: int
    trained: int
    polled: int
    evaluations: int
    n: int
    evaluation_n: int
    longest: tuple[int, int]

    @property
    def responses(self) -> int:
        """Responses that are sampled for training."""
        return self.sampled * self.n

    @property
    def tokens(self) -> int:
        """Tokens to generate for training at most."""
        return self.responses * self.longest[0]

    @property
    def evaluation_tokens(self) -> int:
        """Tokens to generate in validation and test at most."""
        return self.evaluations * self.evaluation_n * self.longest[1]


@dataclass(frozen=True)
class Forwards:
    """Reward-model forwards, of ensembles each member's.

    Attributes:
        judging: At least and at most, by who is chosen: every response that is trained on is scored by one arm.
        polling: Beside that, where the signal asks all arms; at most.
        constraints: Beside that, of each constraint.
    """

    judging: tuple[int, int]
    polling: int
    constraints: dict[str, int]

    @property
    def most(self) -> int:
        """All together, at most."""
        return self.judging[1] + self.polling + sum(self.constraints.values())


def work_of(data: PreferenceData, signal: Signal, trainer: Trainer) -> Work:
    """Count, for data that is set up.

    Args:
        data: The prompts.
        signal: What may ask all reward models.
        trainer: How long it trains.
    """
    train = data.prompts["train"]
    whole = _iterations(trainer)
    every = trainer.accumulate_grad_batches
    done: list[Iteration] = []
    optimizer_steps = steps = 0
    while len(done) < (whole if whole is not None else 1) and len(done) < ITERATIONS:
        left = None if trainer.max_steps == -1 else (trainer.max_steps - optimizer_steps) * every
        if left is not None and left <= 0:
            break
        iteration = _iteration(data, signal, trainer, len(done), left)
        done.append(iteration)
        steps += len(iteration.batches)
        optimizer_steps += math.ceil(len(iteration.batches) / every)
    factor = 1.0 if whole is None or len(done) < ITERATIONS else whole / ITERATIONS
    iterations = None if whole is None and trainer.max_steps == -1 else round(len(done) * factor)
    looks = len(done) * factor / (trainer.check_val_every_n_epoch or 1)
    evaluations = math.floor(looks) * _evaluated(data, trainer.limit_val_batches, "validation")
    evaluations += 2 * _evaluated(data, trainer.limit_test_batches, "test")
    return Work(
        prompts={name: len(prompts) for name, prompts in data.prompts.items()},
        used=min(data.prompts_per_iteration or len(train), len(train)),
        iterations=iterations,
        steps=round(steps * factor),
        optimizer_steps=round(optimizer_steps * factor),
        sampled=round(sum(one.sampled for one in done) * factor),
        trained=round(sum(sum(one.batches) for one in done) * factor),
        polled=round(sum(one.polled for one in done) * factor),
        evaluations=evaluations,
        n=data.rollouts.n,
        evaluation_n=data.policy.evaluation.n + 1,
        longest=(data.rollouts.max_new_tokens, data.policy.evaluation.max_new_tokens),
    )  # fmt: skip


def _iterations(trainer: Trainer) -> int | None:
    if trainer.max_epochs not in (None, -1):
        return int(trainer.max_epochs)
    return None if trainer.max_steps == -1 else ITERATIONS


def _iteration(data: PreferenceData, signal: Signal, trainer: Trainer, number: int, left: int | None) -> Iteration:
    batches: list[list[Prompt]] = data.plan(number)
    limit = trainer.limit_train_batches
    if isinstance(limit, int):
        batches = sampled = batches[:limit]
    else:
        sampled, batches = batches, batches[: int(len(batches) * (limit or 0.0))]
    batches = batches[:left]
    polled = len(signal.polled([prompt for batch in batches for prompt in batch]))
    return Iteration([len(batch) for batch in batches], sum(map(len, sampled)), polled)


def _evaluated(data: PreferenceData, limit: int | float | None, split: str) -> int:
    """Prompts of a split that are answered in one evaluation."""
    if not data.graded(split):
        return 0
    size = data.evaluation_batch_size
    batches = math.ceil(len(data.prompts[split]) / size)
    kept = batches if limit is None else min(limit, batches) if isinstance(limit, int) else int(batches * limit)
    return min(len(data.prompts[split]), int(kept) * size)


def forwards_of(
    work: Work, models: Mapping[str, RewardModel], arms: Iterable[str], constraints: Iterable[str]
) -> Forwards:
    """What judging takes, as ``laser_pl.rewards.pool`` counts it.

    Args:
        work: What there is to judge.
        models: Arms and constraints, by name.
        arms: Names of the arms.
        constraints: Names of the constraints.
    """
    n = work.n
    each = [models[arm].forwards_per_response(n) for arm in arms]
    judged = work.trained * n
    return Forwards(
        judging=(round(judged * min(each)), round(judged * max(each))),
        polling=round(work.polled * n * sum(each)),
        constraints={name: round(judged * models[name].forwards_per_response(n)) for name in constraints},
    )
