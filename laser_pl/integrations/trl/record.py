"""The record of a training in TRL, as that of a run here: ``python -m laser_pl report`` reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import yaml

from laser_pl.integrations.trl.selected import Learned
from laser_pl.metrics.grader import Grader
from laser_pl.report.summary import versions
from laser_pl.rewards import FunctionReward
from laser_pl.run.files import append_lines, write_json, write_whole
from laser_pl.run.folder import RunFolder, keep_steps_before
from laser_pl.run.judged_record import judged_line
from laser_pl.run.metrics_file import MetricsFile
from laser_pl.selection.selector import Selector

PROMPTS = 240
"""Of a training that are kept whole; as of a run here, a page of them still opens on a telephone."""
NAME = "selection"
"""The folder in TRL's ``output_dir``; the next training there has one of its own, ``selection-2``."""


class Record:
    """``config.yaml``, ``selection.jsonl``, ``judged.jsonl``, ``metrics.csv`` and, at the end, ``summary.json``.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.metrics = MetricsFile(folder.metrics)
        self.expect(PROMPTS)

    @classmethod
    def begin(cls, output_dir: str, selector: Selector, iterations: int) -> Record:
        """Begin one in a folder that nobody has used.

        Args:
            output_dir: TRL's.
            selector: Whose choices are recorded.
            iterations: Passes over the data set.

        Raises:
            ConfigurationError: If the folder cannot be made.
        """
        record = cls(RunFolder.claim(output_dir, NAME))
        config = {"name": record.folder.path.name, "trainer": {"max_epochs": iterations}, "selection": _parts(selector)}
        write_whole(record.folder.config, yaml.safe_dump(config, sort_keys=False), record.folder.path)
        return record

    @classmethod
    def go_on(cls, folder: RunFolder, batches: int, rows: int) -> Record:
        """Go on with one, without what a checkpoint has not seen.

        Args:
            folder: It.
            batches: Generation batches that were learned from.
            rows: Rows of ``metrics.csv``.

        Raises:
            ConfigurationError: If a line of it is none that a run wrote.
        """
        folder.refuse_other()
        record = cls(folder)
        keep_steps_before(batches, folder.selection)
        keep_steps_before(batches, folder.judged)
        keep_steps_before(batches, folder.answers)
        record.metrics.keep_first(rows)
        folder.summary.unlink(missing_ok=True)
        return record

    def expect(self, batches: int) -> None:
        """Know how many generation batches there will be, to keep prompts from all of them: ``PROMPTS`` at most."""
        self._every, self._of_batch = max(1, math.ceil(batches / PROMPTS)), max(1, PROMPTS // max(1, batches))

    def write(self, learned: Learned, arms: Sequence[str], grader: Grader) -> None:
        """Write what was decided and learned, and the first prompts of some batches whole; TRL has shuffled them."""
        append_lines(self.folder.selection, (one.as_dict() for one in learned.decisions), self.folder.path)
        if learned.number % self._every == 0:
            told = learned.number, arms, learned.polled, grader.is_right
            rows = range(min(self._of_batch, len(learned.batch)))
            append_lines(self.folder.judged, (judged_line(learned.batch, row, *told) for row in rows), self.folder.path)

    def log(self, logs: Mapping[str, Any], step: int, epoch: float) -> None:
        """Write what TRL logs, of training as ``train/``, of evaluation as ``validation/``.

        Args:
            logs: By TRL's names.
            step: Optimizer steps so far.
            epoch: Passes over the data set so far.
        """
        numbers = {
            f"validation/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}": value
            for name, value in logs.items()
            if isinstance(value, int | float) and name != "epoch"
        }
        if numbers:
            self.metrics.log_metrics({"epoch": max(0, math.ceil(epoch) - 1), **numbers}, max(0, step - 1))

    def end(self, selector: Selector, batches: int, iterations: int) -> None:
        """Write down that training has ended, what answers say of the arms, and what scoring cost."""
        when, pool = {"iteration": max(0, iterations - 1), "step": max(0, batches - 1)}, selector.pool
        if found := selector.signal.findings():
            append_lines(self.folder.answers, (when | line for line in found), self.folder.path)
        write_json(
            self.folder.summary,
            {
                "iterations": iterations,
                "steps": batches,
                "reward_model_forwards": dict(pool.forwards),
                "reward_model_spending": {name: dict(counts) for name, counts in pool.spent.items()},
                "labels_missing": {name: dict(kinds) for name, kinds in pool.missing.items() if kinds},
                "seconds": {"scoring": pool.seconds},
                "versions": {**versions(), "trl": version("trl")},
            },
            self.folder.path,
        )


def _parts(selector: Selector) -> dict[str, Any]:
    """The classes of the selection's parts, as a configuration names them."""
    models: dict[str, Any] = {}
    for name in selector.arms:
        model = selector.pool.reward_models[name]
        models[name] = {"class_path": _path(type(model))}
        if isinstance(model, FunctionReward):
            models[name]["init_args"] = {"function": _path(model.function)}
    parts = {
        part: {"class_path": _path(type(getattr(selector, part)))}
        for part in ("bandit", "context", "signal", "normalizer")
    }
    return {"reward_models": models, **parts, "granularity": selector.granularity, "seed": selector.seed}


def _path(what: Any) -> str:
    return f"{getattr(what, '__module__', '')}.{getattr(what, '__qualname__', type(what).__name__)}".lstrip(".")
