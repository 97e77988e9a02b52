"""What is known of a run that goes on: all that is shown of it is a function of this."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from laser_pl.runtime.progress import Task
from laser_pl.selection.decision import Decision


@dataclass(frozen=True)
class State:
    """A run at one moment. Never changed, only replaced, so that whoever draws it from another thread sees one moment.

    Attributes:
        name: The run's.
        began: When, in seconds of ``time.monotonic``.
        tasks: What is under way, the outermost first.
        iteration: The one that is under way, counted from 1; None while nothing is trained.
        iterations: How many there will be; None if nobody knows.
        step: Training steps so far.
        loss: The last step's; None before the first one, and after one that trained nothing.
        losses: Sum and number of the iteration's losses.
        accuracy: What was measured so far, by the phase that measured it, in order.
        validated_in: The iteration of the last validation.
        judged_in: The iteration that ``judged`` is about.
        judged: How many of its prompts each arm judged.
        decision: The last one.
    """

    name: str = ""
    began: float = field(default_factory=time.monotonic)
    tasks: tuple[Task, ...] = ()
    iteration: int | None = None
    iterations: int | None = None
    step: int = 0
    loss: float | None = None
    losses: tuple[float, int] = (0.0, 0)
    accuracy: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    validated_in: int | None = None
    judged_in: int | None = None
    judged: Mapping[str, int] = field(default_factory=dict)
    decision: Decision | None = None

    @property
    def mean_loss(self) -> float | None:
        """Of the iteration so far."""
        total, count = self.losses
        return total / count if count else None

    @property
    def shares(self) -> dict[str, float]:
        """Share of the prompts that each arm judged, the largest first."""
        prompts = sum(self.judged.values())
        ordered = sorted(self.judged.items(), key=lambda item: -item[1])
        return {arm: count / prompts for arm, count in ordered} if prompts else {}

    def begin(self, task: Task) -> State:
        """With one more task."""
        return replace(self, tasks=(*self.tasks, task))

    def advance(self, count: float, now: float) -> State:
        """With so many more done of the innermost task, at a time of ``time.monotonic``."""
        if not self.tasks:
            return self
        last = self.tasks[-1]
        return replace(self, tasks=(*self.tasks[:-1], replace(last, done=last.done + count, advanced=now)))

    def end(self) -> State:
        """Without the innermost task."""
        return replace(self, tasks=self.tasks[:-1])

    def measured(self, phase: str, accuracy: float) -> State:
        """With one more measurement."""
        return replace(self, accuracy={**self.accuracy, phase: (*self.accuracy.get(phase, ()), accuracy)})

    def decided(self, decisions: Sequence[Decision], arms: Sequence[str]) -> State:
        """After a training step.

        Args:
            decisions: The batch's, at least one.
            arms: All arms.
        """
        iteration = decisions[0].iteration + 1
        anew = iteration != self.judged_in
        judged = dict.fromkeys(arms, 0) if anew else dict(self.judged)
        for decision in decisions:
            judged[decision.arm] += len(decision.prompt_ids)
        loss = _loss(decisions)
        total, count = (0.0, 0) if anew else self.losses
        return replace(
            self,
            step=decisions[0].step + 1,
            loss=loss,
            losses=(total, count) if loss is None else (total + loss, count + 1),
            judged_in=iteration,
            judged=judged,
            decision=decisions[-1],
        )


def _loss(decisions: Sequence[Decision]) -> float | None:
    """The mean over the batch's prompts with pairs, which is what was minimised."""
    parts = [
        (decision.loss, len(decision.prompt_ids) - decision.prompts_without_pairs)
        for decision in decisions
        if decision.loss is not None
    ]
    prompts = sum(count for _, count in parts)
    return sum(loss * count for loss, count in parts) / prompts if prompts else None
