"""What best-of-n with the learned selection answers to each prompt: its file, and its table."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError, writable
from laser_pl.messages.places import absolute
from laser_pl.messages.terminal import as_markup
from laser_pl.metrics.grader import Grader
from laser_pl.report.statistics import interval, mean_and_interval
from laser_pl.run.files import append_lines, writing
from laser_pl.run.folder import RunFolder
from laser_pl.run.line_cache import digest_of, lines_by_prompt
from laser_pl.selection.best import Best

log = logging.getLogger(__name__)

Line = dict[str, Any]
"""One line of ``predictions.jsonl``: ``prompt_id``, ``prompt``, ``category``, ``arm`` (the reward model that judged),
``mean`` (the bandit's expected reward of each), ``response`` (the one with the best score; null if none may be chosen),
``score``, ``answer``, ``metric``, ``grade`` (of the response, in [0, 1]; null without an answer) and ``sampled`` (the
mean grade of all n responses)."""


def predictions_file(checkpoint: str | None, out: str | None) -> Path:
    """Where predictions are written: ``out``, or ``predictions.jsonl`` in the folder of the checkpoint's run.

    Raises:
        ConfigurationError: If there is no checkpoint to learn the choice from, no such place, or a file is there.
    """
    if checkpoint is None:
        raise ConfigurationError(
            "predict chooses by what a run has learned. Name its checkpoint:"
            " --ckpt_path runs/<name>/checkpoints/last.ckpt."
        )
    if out is not None:
        path = absolute(out)
    else:
        folder = RunFolder(Path(checkpoint).expanduser().resolve().parent.parent)
        if not folder.config.is_file():
            raise ConfigurationError(
                f"The checkpoint '{checkpoint}' lies in no run's folder. Say where to write: --out predictions.jsonl."
            )
        path = folder.path / "predictions.jsonl"
    if path.exists():
        raise ConfigurationError(f"'{path}' is there already. Give --out another name.")
    return path


class Predictions:
    """The file of predictions, and beside it what was made of it before it was whole: a file for each process.

    Args:
        path: The file, which appears whole or not at all.
        depends_on: What predictions follow from. Those that were made of anything else are left where they are.

    Attributes:
        known: Predictions of an earlier, interrupted command, by prompt.
    """

    def __init__(self, path: Path, depends_on: Any) -> None:
        self.path = path
        self._depends_on = depends_on
        self._unfinished = ""
        self.known: dict[str, Line] = {}

    def find(self, origin: Any, texts: Mapping[str, str]) -> None:
        """Take up what an interrupted command predicted for the same prompts, read in the same way.

        Args:
            origin: What distinguishes the tokenizer from others.
            texts: What the policy reads, by prompt; a template may write the date.
        """
        self._unfinished = f"{self.path.stem}-unfinished-{digest_of([self._depends_on, origin, texts])}"
        for part in self._parts():
            with writable(part, "Set --out."):
                self.known |= lines_by_prompt(part)
        others = set(self.path.parent.glob(f"{escape(self.path.stem)}-unfinished-*.jsonl")) - set(self._parts())
        if others:
            log.warning(
                "%s holds predictions of an interrupted command for other settings or prompts (a template may write the"
                " date); they are left there, and it begins again.", sorted(others)[0],
            )  # fmt: skip

    def _parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{escape(self._unfinished)}-*.jsonl"))

    def keep(self, lines: Sequence[Line], process: int) -> None:
        """Write some at once, to be there if nothing more comes.

        Raises:
            ConfigurationError: If they cannot be written.
        """
        with writable(self.path, "Make room, or set --out."):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(self.path.parent / f"{self._unfinished}-{process}.jsonl", lines)

    def finish(self, lines: Iterable[Line]) -> None:
        """Write all of them, and remove what is of no more use.

        Raises:
            ConfigurationError: If they cannot be written.
        """
        with writable(self.path, "Make room, or set --out."):
            with writing(self.path) as file:
                file.writelines((json.dumps(line) + "\n").encode() for line in lines)
            for part in self._parts():
                part.unlink()


def line_of(prompt: Prompt, texts: Sequence[str], row: int, best: Best, arms: Sequence[str], matcher: Grader) -> Line:
    """One line of ``predictions.jsonl``.

    Args:
        prompt: What was asked.
        texts: The ``n`` responses.
        row: The prompt's place in what was scored.
        best: What was scored.
        arms: The names of the arms.
        matcher: Grades responses, where there is an answer.
    """
    arm, chosen = best.arms[row], best.response(row)
    grades = None if prompt.answer is None else [matcher.grade(text, prompt) for text in texts]
    return {
        "prompt_id": prompt.id,
        "prompt": prompt.prompt,
        "category": prompt.category,
        "arm": None if arm is None else arms[arm],
        "mean": dict(zip(arms, best.means[row].tolist(), strict=True)),
        "response": None if chosen is None else texts[chosen],
        "score": None if chosen is None else float(best.scores[row, chosen]),
        "answer": prompt.answer,
        "metric": matcher.name_of(prompt.category),
        "grade": None if grades is None else 0.0 if chosen is None else grades[chosen],
        "sampled": None if grades is None else sum(grades) / len(grades),
    }


def summarise(lines: Sequence[Line]) -> dict[str, Any]:
    """The predictions in numbers, by category; ``average`` is the mean of the categories that have a grade.

    Args:
        lines: At least one.

    Returns:
        By category ``prompts``, ``graded``, ``metric``, ``best_of_n`` with half the width of its 95 % interval over
        prompts (NaN where there are fewer than two, or no scipy), ``sampled``, and ``arms``, how often each judged.
    """
    categories: dict[str, Any] = {}
    for category in sorted({line["category"] for line in lines}):
        own = [line for line in lines if line["category"] == category]
        graded = [line for line in own if line["grade"] is not None]
        categories[category] = {
            "prompts": len(own),
            "graded": len(graded),
            "metric": own[0]["metric"],
            "best_of_n": _mean([line["grade"] for line in graded]) if graded else None,
            "sampled": sum(line["sampled"] for line in graded) / len(graded) if graded else None,
            "arms": dict(Counter(line["arm"] for line in own).most_common()),
        }
    known = [numbers for numbers in categories.values() if numbers["graded"]]
    if not known:
        return {"categories": categories}
    average = {
        "best_of_n": sum(numbers["best_of_n"][0] for numbers in known) / len(known),
        "sampled": sum(numbers["sampled"] for numbers in known) / len(known),
    }
    return {"categories": categories, "average": average}


def print_predictions(summary: Mapping[str, Any], n: int, path: Path, console: Console | None = None) -> None:
    """The table: what the chosen responses are worth, against any of the n, and who chose them.

    Args:
        summary: By ``summarise``.
        n: Responses to each prompt.
        path: Where the predictions lie.
        console: Where to print; standard output if not given.
    """
    console = console or Console(highlight=False)
    table = Table(title=f"Best of {n} by the learned selection, with the 95 % interval", title_justify="left")
    table.add_column("category")
    table.add_column("metric")
    for heading in ("prompts", f"best of {n}", "one sample"):
        table.add_column(heading, justify="right")
    table.add_column("scored by")
    for category, numbers in summary["categories"].items():
        best = "" if numbers["best_of_n"] is None else interval(*numbers["best_of_n"])
        sampled = "" if numbers["sampled"] is None else f"{numbers['sampled']:.3f}"
        judges = ", ".join(
            f"{as_markup(arm or 'nobody')} {count / numbers['prompts']:.0%}" for arm, count in numbers["arms"].items()
        )
        table.add_row(as_markup(category), numbers["metric"], str(numbers["prompts"]), best, sampled, judges)
    if "average" in summary:
        table.add_section()
        average = summary["average"]
        table.add_row("average", "", "", f"{average['best_of_n']:.3f}", f"{average['sampled']:.3f}", "")
    console.print(table)
    console.print(f"Predictions: {as_markup(str(path))}", soft_wrap=True)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    try:
        return mean_and_interval(values)
    except ConfigurationError:  # without scipy, which is no reason to lose what was predicted
        return sum(values) / len(values), float("nan")
