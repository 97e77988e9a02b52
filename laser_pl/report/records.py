"""What a run's folder holds, whether the run is finished, going on, or was killed."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from traceback import extract_tb
from typing import Any

from laser_pl.errors import ConfigurationError
from laser_pl.report.kinds import (
    ALSO_OF_DECISION,
    ALSO_OF_JUDGED,
    OF_ANSWERS,
    OF_DECISION,
    OF_JUDGED,
    OF_PROBED,
    OF_SUMMARY,
    holds,
    lies_within,
)
from laser_pl.run.bounds import in_memory
from laser_pl.run.files import read_text, whole_lines
from laser_pl.run.folder import RunFolder
from laser_pl.run.former_settings import OBJECTIVES, with_new_names
from laser_pl.run.metrics_csv import MetricsRow, read_metrics

Line = dict[str, Any]
"""One line of a JSONL file."""

MOST_ARMS, MOST_CATEGORIES = 100, 1000
"""That are shown: each two arms are compared, and no picture holds more."""
_PACKAGE = Path(__file__).parents[1]
_MOST_MEMORY = 2**32
"""Bytes for all that is read of a run; Parquet of some kilobytes can hold any number of values."""


@dataclass(frozen=True)
class RunRecords:
    """The records of one run.

    Attributes:
        folder: Where they lie.
        config: ``config.yaml``.
        summary: ``summary.json``; None as long as the run is not finished.
        metrics: Rows of ``metrics.csv``.
        decisions: Lines of ``selection.jsonl``.
        judged: Lines of ``judged.jsonl``.
        probed: Lines of ``agreement.jsonl``.
        answers: Lines of ``answers.jsonl``.
        left_out: What could not be read, in words.
    """

    folder: RunFolder
    config: dict[str, Any]
    summary: dict[str, Any] | None = None
    metrics: list[MetricsRow] = field(default_factory=list)
    decisions: list[Line] = field(default_factory=list)
    judged: list[Line] = field(default_factory=list)
    probed: list[Line] = field(default_factory=list)
    answers: list[Line] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @cached_property
    def arms(self) -> list[str]:
        """Every arm, in the order of the configuration; those that are gone by now come last."""
        configured = table(self.config, "selection", "reward_models")
        return list(dict.fromkeys([*configured, *(arm for line in self.decisions for arm in line["mean"])]))

    @cached_property
    def scorers(self) -> list[str]:
        """The arms that scored anything, in that order."""
        used = {line["arm"] for line in self.decisions}
        return [arm for arm in self.arms if arm in used]

    @cached_property
    def shares(self) -> dict[str, dict[str, float]]:
        """Share of each category's prompts that each arm judged; decisions about several categories are ``mixed``."""
        if self.summary is not None and isinstance(self.summary.get("arm_share"), dict):
            return dict(self.summary["arm_share"])
        return shares_by_category(self.decisions)

    @property
    def bandit(self) -> str:
        """The class of the bandit, without its module."""
        return str(table(self.config, "selection", "bandit").get("class_path", "")).rpartition(".")[2]

    @property
    def signal(self) -> str:
        """The class of the signal, without its module."""
        return str(table(self.config, "selection", "signal").get("class_path", "")).rpartition(".")[2]

    @property
    def objective(self) -> dict[str, Any]:
        """What was minimised, as it was configured; empty for DPO by ``model.beta``."""
        named = table(self.config, "model", "objective")
        return table(named, "init_args", "of") if self._is("Frozen") else named

    @property
    def supervised(self) -> bool:
        """Whether it trained on written responses, which nobody judged.

        An objective of the user's is known by what it logs: nothing of the user's is imported to look at a run.
        """
        return self._is("Supervised") or bool(self.metric("train/answers"))

    @property
    def trains(self) -> bool:
        """Whether what the policy samples could change: it is not frozen, and does not read what others wrote."""
        return not self.supervised and not self._is("Frozen")

    def _is(self, objective: str) -> bool:
        path = str(table(self.config, "model", "objective").get("class_path"))
        return path.startswith(f"{OBJECTIVES}.") and path.endswith(f".{objective}")

    @cached_property
    def steps(self) -> int:
        """Training steps so far; a supervised run has no decisions, but metrics."""
        return len({line["step"] for line in self.decisions}) or len(self.metric_of_steps(""))

    @property
    def last_answers(self) -> list[Line]:
        """What answers said at last, a line for each category."""
        return list({line["category"]: line for line in self.answers}.values())

    @property
    def iteration(self) -> int:
        """The last one that is recorded, counted from 1; 0 if none is."""
        trained = [iteration for _, iteration, _ in self.metric_of_steps("")]
        return 1 + max([*trained, *(line["iteration"] for line in self.decisions)], default=-1)

    @property
    def iterations(self) -> int | None:
        """How many were asked for, if that is known."""
        asked = table(self.config, "trainer").get("max_epochs")
        return asked if isinstance(asked, int) and asked > 0 else None

    def metric(self, name: str) -> list[tuple[int, int, float]]:
        """Step, iteration and value, wherever a metric was logged."""
        return [(step, int(row.get("epoch", 0)), row[name]) for step, row in self.metrics if name in row]

    def metric_of_steps(self, name: str) -> list[tuple[int, int, float]]:
        """The same for every training step; NaN where a step has none, such as the loss of one that was skipped."""
        steps = [(step, row) for step, row in self.metrics if any(other.startswith("train/") for other in row)]
        return [(step, int(row.get("epoch", 0)), row.get(name, math.nan)) for step, row in steps]

    def metric_by_iteration(self, name: str) -> dict[int, list[float]]:
        """A metric's values in every iteration."""
        found: dict[int, list[float]] = {}
        for _, iteration, value in self.metric(name):
            found.setdefault(iteration, []).append(value)
        return found

    @property
    def parts(self) -> list[str]:
        """Names of the parts of the training loss: whatever else a decision's line holds."""
        line = self.decisions[0] if self.decisions else {}
        return [name for name in line if name.isidentifier() and name not in {**OF_DECISION, **ALSO_OF_DECISION}]

    def metric_names(self, prefix: str) -> list[str]:
        """What stands behind a prefix in the names of metrics; the average last."""
        names = {name.removeprefix(prefix) for _, row in self.metrics for name in row if name.startswith(prefix)}
        return sorted(names, key=lambda name: (name == "average", name))


def read_records(path: Path) -> RunRecords:
    """Read a run's folder, with whatever is there.

    Raises:
        ConfigurationError: If it is no run's folder.
    """
    folder = RunFolder(path)
    folder.refuse_other()
    left_out: list[str] = []
    records = RunRecords(
        folder,
        with_new_names(folder.read_config()),
        _summary(folder.summary, left_out),
        _metrics(folder.metrics, left_out),
        _lines(folder.selection, lambda line: holds(line, OF_DECISION, ALSO_OF_DECISION), left_out),
        _lines(
            folder.judged,
            lambda line: (
                holds(line, OF_JUDGED, ALSO_OF_JUDGED)
                and line["arm"] in line["scores"]
                and lies_within(line, len(line["responses"]))
            ),
            left_out,
        ),
        _lines(folder.agreement, lambda line: holds(line, OF_PROBED, {}), left_out),
        _lines(folder.answers, lambda line: holds(line, OF_ANSWERS, {}), left_out),
        left_out,
    )
    _refuse_crowds(records)
    return records


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Run a block over a run's records, which may contradict one another in ways that nobody has thought of.

    Args:
        path: The run's folder.

    Raises:
        ConfigurationError: If it cannot be done with them.
    """
    try:
        with in_memory(_MOST_MEMORY):
            yield
    except (ConfigurationError, OSError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        ours = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_PACKAGE)]
        where = f"{Path(ours[-1].filename).relative_to(_PACKAGE)}, line {ours[-1].lineno}"
        raise ConfigurationError(
            f"The records of the run '{path}' are damaged, or contradict one another ({reason}; {where}). Get the run"
            " again. If it is your own and nobody has changed it, the fault is ours: tell us this sentence."
        ) from error


def table(config: Any, *names: str) -> dict[str, Any]:
    """A part of a configuration; empty if it is none.

    >>> table({"model": {"lora": 5}}, "model"), table({"model": {"lora": 5}}, "model", "lora")
    ({'lora': 5}, {})
    """
    found = config
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _refuse_crowds(records: RunRecords) -> None:
    arms = {*records.arms, *(arm for one in [*records.judged, *records.probed] for arm in one["scores"])}
    categories = {one.get("category") for one in [*records.decisions, *records.judged]}
    categories |= set(records.metric_names("test/accuracy/sampled/")) | set(records.shares)
    for found, most, what in ((arms, MOST_ARMS, "reward models"), (categories, MOST_CATEGORIES, "categories")):
        if len(found) > most:
            raise ConfigurationError(
                f"The records of '{records.folder.path}' name {len(found):,} {what}, and no more than {most:,} are"
                " shown. Take out the files that are not the run's own."
            )


def trained_nothing(decision: Line) -> bool:
    """Whether no responses of it were distinguished: not a pair was made, or no scores differ that would be trained."""
    if decision.get("pairs", 0) is None:
        return bool(decision.get("prompts_without_pairs") == len(decision["prompt_ids"]))
    return decision.get("pairs") == 0


def shares_by_category(decisions: Iterable[Line]) -> dict[str, dict[str, float]]:
    """Share of each category's prompts that each arm judged.

    >>> shares_by_category([{"category": "sums", "arm": "a", "prompt_ids": ["p", "q", "r"]},
    ...                     {"category": "sums", "arm": "b", "prompt_ids": ["s"]}])
    {'sums': {'a': 0.75, 'b': 0.25}}
    """
    counts: dict[str, Counter[str]] = {}
    for line in decisions:
        category = line.get("category")
        own = counts.setdefault("mixed" if category is None else category, Counter())
        own[line["arm"]] += len(line["prompt_ids"])
    return {
        category: {arm: count / own.total() for arm, count in own.items()} for category, own in sorted(counts.items())
    }


def _summary(path: Path, left_out: list[str]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        summary = json.loads(read_text(path, path.parent))
    except ConfigurationError:  # a link, which has come since they were looked for
        raise
    except (OSError, ValueError, RecursionError):
        summary = None
    if not holds(summary, {}, OF_SUMMARY):
        left_out.append("summary.json cannot be read")
        return None
    return dict(summary)


def _metrics(path: Path, left_out: list[str]) -> list[MetricsRow]:
    try:
        return read_metrics(path)
    except ConfigurationError:
        raise
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error):
        left_out.append("metrics.csv cannot be read")
        return []


def _lines(path: Path, is_sound: Callable[[Any], bool], left_out: list[str]) -> list[Line]:
    """The lines that are whole and hold what they should."""
    if not path.is_file():
        return []
    found: list[Line] = []
    torn = 0
    for text in whole_lines(path):
        try:
            line: Any = json.loads(text) if text.endswith("\n") else None
        except (ValueError, RecursionError):
            line = None
        if is_sound(line):
            found.append(line)
        else:
            torn += 1
    if torn:
        left_out.append(f"{torn} of the {len(found) + torn} lines of {path.name} cannot be read")
    return found
