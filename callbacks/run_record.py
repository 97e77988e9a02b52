"""What a run leaves behind: its decisions, its counts and its adapter."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from laser_pl.batches import LabelledBatch, RolloutBatch
from laser_pl.policy.policy import Policy
from laser_pl.run.files import append_lines, written_aside
from laser_pl.run.folder import RunFolder, keep_steps_before
from laser_pl.run.metrics_file import MetricsFile, metrics_files
from laser_pl.run.pair_record import pair_lines
from laser_pl.runtime.sharding import gathered
from laser_pl.selection.decision import Decision
from laser_pl.selection.selector import Selector

log = logging.getLogger(__name__)


def selection_scalars(decisions: Sequence[Decision]) -> dict[str, float]:
    """What a batch's decisions add to the metrics of every logger.

    Args:
        decisions: Of one batch, at least one.

    Returns:
        ``bandit/mean/<arm>`` and ``bandit/bonus/<arm>``, the mean over the batch's prompts of what the bandit expected
        and of what its uncertainty added, and ``seconds/scoring``, the time for loading and asking reward models.
    """
    prompts = sum(len(decision.prompt_ids) for decision in decisions)
    scalars = {"seconds/scoring": decisions[0].reward_model_seconds}  # which is the batch's
    for part in ("mean", "bonus"):
        for arm in decisions[0].mean:
            total = sum(getattr(decision, part)[arm] * len(decision.prompt_ids) for decision in decisions)
            scalars[f"bandit/{part}/{arm}"] = total / prompts
    return scalars


class RunRecord(Callback):
    """Writes down what a run does, counts, and takes the time.

    ``selection.jsonl``, ``pairs.jsonl`` and ``agreement.jsonl`` are written as decisions are made, ``answers.jsonl`` at
    the end of each iteration, where the signal uses answers, and ``adapter/`` at the end.

    On resume counts and times go on, and lines past the checkpoint are dropped, since their steps are done again.

    Args:
        folder: The run's folder.
        selector: Whose decisions are recorded; it must come before this callback in the trainer's list.

    Attributes:
        before: Test accuracy by category before training, once it was measured.
        before_on: A digest of the test prompts that it was measured on.
        shares: How many prompts of each category each arm judged.
        possible: Forwards so far if every reward model that there was had scored every response once.
        steps: Training batches so far.
        skipped: Those that had nothing to learn from, not a single pair or scores that differ.
        bad: Those whose loss or gradient was no finite number.
        seconds: Time in training steps (without scoring) and in validation and test.
    """

    def __init__(self, folder: RunFolder, selector: Selector) -> None:
        self.folder = folder
        self.selector = selector
        self.before: dict[str, float] | None = None
        self.before_on: str | None = None
        self.shares: dict[str, Counter[str]] = {}
        self.possible = 0.0
        self.steps = 0
        self.skipped = 0
        self.bad = 0
        self.seconds = {"steps": 0.0, "validation": 0.0}
        self._metrics: list[MetricsFile] = []
        self._rows: int | None = None  # of metrics.csv, in the checkpoint that the run goes on from
        self._elapsed_before = 0.0
        self._began = time.perf_counter()
        self._clock = 0.0
        self._scoring = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, without the time it lay interrupted."""
        return self._elapsed_before + time.perf_counter() - self._began

    # -- training ----------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find where metrics are written."""
        self._metrics = metrics_files(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a resume, keep what was recorded up to the checkpoint and drop the rest."""
        self._continue_metrics()
        if trainer.is_global_zero:
            keep_steps_before(self.steps, self.folder.selection)
            keep_steps_before(self.steps, self.folder.pairs)
            keep_steps_before(self.steps, self.folder.agreement)
            keep_steps_before(self.steps, self.folder.answers)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the step's clock; selection and scoring are over by now."""
        self._clock, self._scoring = time.perf_counter(), self.selector.pool.seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RolloutBatch, batch_idx: int
    ) -> None:
        """Record the batch's decisions, which have learned from the step by now."""
        # A trusted check scores after the step; that time is scoring's.
        self.seconds["steps"] += time.perf_counter() - self._clock - (self.selector.pool.seconds - self._scoring)
        self.steps += 1
        assert isinstance(pl_module, Policy)
        self.skipped += 0 if pl_module.step.labels else 1
        self.bad += 0 if pl_module.step.bad is None else 1
        if isinstance(batch, LabelledBatch):  # written responses have none
            names = self.selector.arms
            judges = [names[arm] for arm in batch.arms.tolist()]
            for prompt, judge in zip(batch.prompts.prompts, judges, strict=True):
                self.shares.setdefault(prompt.category, Counter())[judge] += 1
            pool, (prompts, n) = self.selector.pool, batch.responses.finished.shape
            self.possible += prompts * n * sum(pool.reward_models[name].forwards_per_response(n) for name in names)
            shares = {f"selection/{name}": judges.count(name) / len(judges) for name in names}
            pl_module.log_dict({**shares, **selection_scalars(self.selector.decisions)}, on_step=True)
            if trainer.is_global_zero:
                append_lines(self.folder.selection, (decision.as_dict() for decision in self.selector.decisions))
                append_lines(self.folder.pairs, pair_lines(batch, self.steps - 1, judges))
                if self.selector.probed:
                    step = {"step": self.steps - 1}
                    append_lines(self.folder.agreement, (step | line for line in self.selector.probed))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record what answers say of the reward models."""
        found = self.selector.signal.findings()
        if trainer.is_global_zero and found:
            when = {"iteration": trainer.current_epoch, "step": self.steps - 1}
            append_lines(self.folder.answers, (when | line for line in found))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the adapter in PEFT's own format."""
        self._continue_metrics()  # training was over already when the run was interrupted
        assert isinstance(pl_module, Policy)
        tensors = gathered(pl_module.model)
        if trainer.is_global_zero:
            if tensors is None:  # they are whole, and on a card perhaps
                state = pl_module.model.state_dict()
                tensors = {name: tensor.cpu() for name, tensor in state.items() if "lora_" in name}
            with written_aside(self.folder.adapter / "adapter_model.safetensors", self.folder.path) as aside:
                pl_module.model.save_pretrained(str(aside), state_dict=tensors, safe_serialization=True)

    def _continue_metrics(self) -> None:
        if self._rows is not None:
            for metrics in self._metrics:
                metrics.keep_first(self._rows)
        self._rows = None

    # -- validation and test -----------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.seconds["validation"] += time.perf_counter() - self._clock

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.seconds["validation"] += time.perf_counter() - self._clock

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Counts and times so far."""
        return {
            "before": self.before,
            "before_on": self.before_on,
            "shares": {category: dict(counts) for category, counts in self.shares.items()},
            "possible": self.possible,
            "steps": self.steps,
            "skipped": self.skipped,
            "bad": self.bad,
            "seconds": dict(self.seconds),
            "elapsed": self.elapsed,
            "rows": max((metrics.count for metrics in self._metrics), default=0),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        if self.before is None:  # measured just now, for a new run from a checkpoint, it may be on other prompts
            self.before, self.before_on = state_dict["before"], state_dict["before_on"]
        self.shares = {category: Counter(counts) for category, counts in state_dict["shares"].items()}
        self.possible, self.steps = state_dict["possible"], state_dict["steps"]
        self.skipped, self.bad = state_dict["skipped"], state_dict["bad"]
        self.seconds = dict(state_dict["seconds"])
        self._elapsed_before = state_dict["elapsed"]
        self._rows = state_dict["rows"]
