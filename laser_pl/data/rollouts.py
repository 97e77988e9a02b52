"""An iteration's rollouts: made when it begins, or sampled while the one before it is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice

from lightning.pytorch import Trainer

from laser_pl.batches import Prompt, PromptBatch, RolloutBatch
from laser_pl.data.rollout_store import RolloutStore, Row, rollout_batch, sampled
from laser_pl.errors import ConfigurationError
from laser_pl.generation.sampling import Sampling
from laser_pl.policy.policy import Policy
from laser_pl.runtime import progress
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

Chunks = list[list[Prompt]]


@dataclass
class Rollouts:
    """Rollouts of a run, chunk by chunk, each process its own. What lies on disk stays.

    Attributes:
        trainer: The run's.
        policy: The policy that is trained.
        encode: From prompts to what the policy reads.
        sampling: How responses are sampled.
        seed: Root of their randomness.
        given_up: Whether the run has ended; what is sampled ahead then is not kept.
    """

    trainer: Trainer
    policy: Policy
    encode: Callable[[list[Prompt]], PromptBatch]
    sampling: Sampling
    seed: int
    given_up: bool = False

    @property
    def processes(self) -> ProcessGroup:
        """The processes of the run."""
        return ProcessGroup.of(self.trainer)

    def make(
        self, store: RolloutStore, chunks: Chunks, iteration: int, goes_on: bool, moved_on: bool, ahead: bool
    ) -> None:
        """Make the chunks that are not there, by the policy as it is now; of those sampled ahead it wrote no response.

        Args:
            store: Where they lie.
            chunks: Their prompts.
            iteration: Counted from 0.
            goes_on: Whether the run is one that was interrupted.
            moved_on: Whether the policy has been trained in this iteration, so that nothing can be made.
            ahead: Whether they should have been sampled ahead.

        Raises:
            ConfigurationError: If they are another run's, or gone.
        """
        if store.path(0).is_file() and not goes_on:
            raise ConfigurationError(
                f"{store.folder} holds the rollouts of another run. Give the trainer a default_root_dir of its own."
            )
        self.policy.engine.wait()
        self.trainer.strategy.barrier("before rollouts")  # nobody writes before all have looked
        self.policy.publish()
        own = self._own(chunks)
        late = [number for number, _ in own if not store.path(number).is_file() and not store.ahead(number).is_file()]
        if late and ahead and not moved_on:
            log.warning("%d of %d chunks of iteration %d were not sampled while the one before it was trained: the"
                        " policy as it is now answers their prompts.", len(late), len(own), iteration)  # fmt: skip
        there = [number for number, _ in own if store.path(number).is_file()]
        with self._shown("rollouts", own, there), self.policy.in_step():
            for number, prompts in own:
                if number not in there:
                    if moved_on:
                        raise ConfigurationError(
                            f"{store.path(number)} is gone, and cannot be made again: the policy that wrote it has been"
                            " trained since. Put it back, or start a new run."
                        )
                    with self.trainer.precision_plugin.forward_context():
                        self._make_one(store, iteration, number, prompts)
                store.discard_ahead(number)
        self.trainer.strategy.barrier("after rollouts")

    def sample_ahead(self, store: RolloutStore, chunks: Chunks, iteration: int) -> None:
        """Have the policy that was published last answer the prompts of the next iteration; its responses are kept.

        Args:
            store: Where they lie.
            chunks: Their prompts.
            iteration: The next one.
        """
        engine, own = self.policy.engine, self._own(chunks)
        there = [number for number, _ in own if store.path(number).is_file() or store.ahead(number).is_file()]
        asked = [(number, self.encode(prompts).to(self.policy.device)) for number, prompts in own
                 if number not in there]  # fmt: skip

        def sample() -> None:
            with self._shown("rollouts ahead", own, there):
                for number, prompts in asked:
                    if self.given_up:
                        return
                    responses = engine.respond(prompts, self.sampling, self._seed(iteration, number))
                    if not self.given_up:
                        store.write_ahead(number, prompts, responses)

        with self.policy.in_step(), self.trainer.precision_plugin.forward_context():
            engine.ahead(sample)

    def read(self, store: RolloutStore, number: int, prompts: list[Prompt], iteration: int) -> list[Row]:
        """The rows of a chunk.

        Raises:
            ConfigurationError: If they are of other prompts.
        """
        rows = store.read(number)
        self._refuse_others(rows, str(store.path(number)), prompts, iteration)
        return rows

    def batches(self, planned: Chunks, chunks: list[list[Row]], iteration: int) -> list[RolloutBatch]:
        """The rows of all chunks in the plan's batches."""
        every = [row for chunk in chunks for row in chunk]
        prompts = [prompt for batch in planned for prompt in batch]
        other = sum(prompt.text != row["text"] for prompt, row in zip(prompts, every, strict=True))
        if other:
            log.warning(
                "%d of %d prompts would read otherwise now: the template has changed since the iteration's responses"
                " were sampled, or writes the date. The iteration goes on with the prompts that were answered.",
                other, len(prompts),
            )  # fmt: skip
        rows, pad = iter(every), self.policy.tokenizer.pad_token_id
        return [rollout_batch(batch, list(islice(rows, len(batch))), pad, iteration) for batch in planned]

    def _own(self, chunks: Chunks) -> list[tuple[int, list[Prompt]]]:
        return [(number, chunks[number]) for number in self.processes.rows(len(chunks))]

    def _seed(self, iteration: int, number: int) -> int:
        return derive_seed(self.seed, "rollouts", iteration, number)

    def _shown(self, what: str, own: list[tuple[int, list[Prompt]]], there: list[int]) -> AbstractContextManager[None]:
        """A block of which those hear who show progress."""
        count = {number: self.sampling.n * len(prompts) for number, prompts in own}
        return progress.task(what, "responses", sum(count.values()), sum(count[number] for number in there))

    def _make_one(self, store: RolloutStore, iteration: int, number: int, prompts: list[Prompt]) -> None:
        """Sample responses, or take up what was sampled ahead: the policy as it is now says what it thinks of them."""
        if not store.ahead(number).is_file():
            encoded = self.encode(prompts).to(self.policy.device)
            responses, *known = self.policy.roll_out(encoded, self.sampling, self._seed(iteration, number))
            store.write(number, encoded, responses, *known)
            return
        rows = store.read_ahead(number)
        self._refuse_others(rows, str(store.ahead(number)), prompts, iteration)
        answered, responses = sampled(prompts, rows, self.policy.tokenizer.pad_token_id)
        answered, responses = answered.to(self.policy.device), responses.to(self.policy.device)
        store.write(number, answered, responses, *self.policy.take_as_reference(answered, responses))
        progress.advance(responses.finished.numel())

    def _refuse_others(self, rows: list[Row], path: str, prompts: list[Prompt], iteration: int) -> None:
        found = [(row["prompt_id"], row["category"], len(row["responses"])) for row in rows]
        if found != [(prompt.id, prompt.category, self.sampling.n) for prompt in prompts]:
            raise ConfigurationError(
                f"{path} holds other prompts, or another number of responses, than this"
                f" configuration uses in iteration {iteration}. Resume with the configuration and the data the run was"
                " started with, or start a new run."
            )


def is_another_to_come(trainer: Trainer, iteration: int, batches: int) -> bool:
    """Whether an iteration follows, as far as it is known when this one, of so many batches, begins."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    after = trainer.global_step + -(-batches // trainer.accumulate_grad_batches)
    return (epochs in (None, -1) or iteration + 1 < epochs) and (steps == -1 or after < steps)
