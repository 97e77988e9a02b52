"""A policy's answers where nothing is trained: graded in validation and test, handed on in predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from laser_pl.batches import PromptBatch, Responses
from laser_pl.generation.engine import RolloutEngine
from laser_pl.generation.sampling import Sampling
from laser_pl.metrics.grader import Grader
from laser_pl.policy.evaluation import Evaluation
from laser_pl.policy.staying import StayingModule
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.runtime.seeds import derive_seed


class AnsweringModule(StayingModule, ABC):
    """Lightning's hooks of validation, test and predict, which ask the engine and know no weights.

    Attributes:
        engine: What samples responses.
        matcher: Says how right a response is.
        evaluation: How responses are sampled in validation and test, beside the greedy one.
        seed: Root of their randomness.
        counts: What was counted so far in this validation or test.
    """

    engine: RolloutEngine
    matcher: Grader
    evaluation: Sampling
    seed: int
    counts: Evaluation | None = None

    @property
    def _processes(self) -> ProcessGroup:
        """The processes that work together."""
        return ProcessGroup() if self._trainer is None else ProcessGroup.of(self.trainer)

    @abstractmethod
    def in_step(self) -> AbstractContextManager[None]:
        """A block, of every process at once, with as many forwards as each needs."""

    @abstractmethod
    def publish(self) -> None:
        """Let the engine answer with the policy as it is now; every process at once."""

    @abstractmethod
    def contexts(self, prompts: PromptBatch) -> Tensor:
        """What the policy makes of prompts. Shape ``(B, d)``."""

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self._start_counting(self.trainer.val_dataloaders)

    def on_test_epoch_start(self) -> None:
        """Start counting."""
        self._start_counting(self.trainer.test_dataloaders)

    def on_predict_epoch_start(self) -> None:
        """Have the engine answer."""
        self.publish()

    def on_predict_epoch_end(self) -> None:
        """Nobody asks it any more."""
        self.engine.rest(self._processes)

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Grade responses, greedy and sampled."""
        with self.in_step():
            self._count(batch, batch_idx)

    def test_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Grade responses, greedy and sampled."""
        with self.in_step():
            self._count(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log ``validation/accuracy/<greedy|sampled|majority>/<category|average>``."""
        self.engine.rest(self._processes)
        self._log_accuracy("validation", self.trainer.val_dataloaders)

    def on_test_epoch_end(self) -> None:
        """Log ``test/accuracy/<greedy|sampled|majority>/<category|average>``."""
        self.engine.rest(self._processes)
        self._log_accuracy("test", self.trainer.test_dataloaders)

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> tuple[Responses, Tensor] | tuple[()]:
        """Responses as for training, of which ``BestOfN`` chooses; and contexts ``(B, d)``. Of no prompts nothing."""
        with self.in_step():
            if len(batch) == 0:  # another process has one, or an earlier command had
                return ()
            asked: Any = self.trainer.predict_dataloaders
            seed = derive_seed(self.seed, "predict", batch_idx * self._processes.size + self._processes.rank)
            return self.engine.respond(batch, asked.sampling, seed), self.contexts(batch)

    def _start_counting(self, asked: Any) -> None:
        self.publish()
        self.counts = None
        if asked.graded:  # or else nobody asks for responses
            self.counts = Evaluation(self.matcher, asked.categories, asked.sampling.n, self.device)

    def _count(self, batch: PromptBatch, batch_idx: int) -> None:
        if len(batch) == 0 or self.counts is None:  # another process has one
            return
        processes = self._processes
        asked = self.evaluation
        greedy = Sampling(n=1, temperature=0, max_new_tokens=asked.max_new_tokens, stop=asked.stop)
        for kind, sampling in (("greedy", greedy), ("sampled", asked)):
            seed = derive_seed(self.seed, "evaluation", batch_idx * processes.size + processes.rank)
            responses = self.engine.respond(batch, sampling, seed)
            for prompt, texts in zip(batch.prompts, responses.texts, strict=True):
                self.counts.count(kind, prompt, texts)

    def _log_accuracy(self, stage: str, asked: Any) -> None:
        if self.counts is not None:
            self.log_dict({f"{stage}/accuracy/{name}": value for name, value in self.counts.compute().items()})
