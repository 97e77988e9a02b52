"""What reaches training when reward models fail: faults put into the quickstart's reward models, and where they end.

Every call of a reward model fails with probability --rate: some or all of its scores are None, NaN or infinite, or it
raises, or it times out. The reward models keep a ledger of it. The run must count the same, reward model by reward
model and kind by kind, in ``summary.json`` and, summed over steps, in ``selection.jsonl``; and no number that is not
finite may be in the losses, in the checkpoint (bandit, baseline, adapter, optimizer) or in what was decided, nor may a
response without a label be in a pair.

Run:  OMP_NUM_THREADS=1 python tests/long/faults.py --rate 0.3
Cost: 1 CPU core, about 40 s, 1 GB. It ends with code 1 if a row differs or something invalid got through.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"))
from results import command_of, parser_of, tell

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ARMS = ["numbers", "sorter", "mirror", "general", "longer"]
QUICKSTART = "experiments/quickstart.yaml"
GRANULARITIES = {"batch": [], "prompt": ["--config", "experiments/quickstart/per_prompt.yaml"]}
Counts = dict[str, dict[str, int]]
"""Reward model to kind to number of responses."""


@dataclass
class Outcome:
    """What one run did with the faults.

    Attributes:
        injected: By the ledger.
        summed_up: By ``summary.json``.
        summed_steps: By ``selection.jsonl``, over the steps.
        calls: Calls with a fault of each kind, and sound ones, over all reward models.
        checked: How many numbers of each sort were looked at.
        invalid: How many of them are not finite; of pairs, how many hold a response without a label.
        steps: Training steps.
        steps_without_pairs: Those that trained nothing.
    """

    injected: Counts
    summed_up: Counts
    summed_steps: Counts
    calls: Counter[str]
    checked: Counter[str]
    invalid: Counter[str]
    steps: int
    steps_without_pairs: int

    def look_at(self, sort: str, numbers: Iterator[float]) -> None:
        """Count what is not finite."""
        for number in numbers:
            self.checked[sort] += 1
            self.invalid[sort] += not math.isfinite(number)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Reward model, kind, and its three counts."""
        from faulty import KINDS

        def count(counts: Counts, arm: str, kind: str) -> int:
            return counts.get(arm, {}).get(kind, 0)

        return [
            (arm, kind, *(count(c, arm, kind) for c in (self.injected, self.summed_up, self.summed_steps)))
            for arm in ARMS
            for kind in KINDS
        ]

    @property
    def holds(self) -> bool:
        """Whether all counts are equal and nothing invalid got through."""
        return all(a == b == c for _, _, a, b, c in self.rows) and self.invalid.total() == 0


def numbers(value: Any) -> Iterator[float]:
    """Every number in nested lists, mappings and tensors."""
    import torch

    if isinstance(value, torch.Tensor):
        yield from value.detach().double().flatten().tolist()
    elif isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def command(granularity: str, rate: float, iterations: int, steps: int, runs_dir: str, seed: int) -> list[str]:
    """A short fit of the quickstart with every reward model wrapped."""
    arms = {
        name: {
            "class_path": "faulty.Faulty",
            "init_args": {
                "name": name,
                "rate": rate,
                "seed": seed,
                "classifier": {
                    "class_path": "laser_pl.rewards.SequenceClassifier",
                    "init_args": {"weights": {"name": f"experiments/quickstart/reward_models/{name}"}},
                },
            },
        }
        for name in ARMS
    }
    return [
        *("fit", "--config", QUICKSTART, *GRANULARITIES[granularity]),
        f"--selection.reward_models={json.dumps(arms)}",
        f"--trainer.max_epochs={iterations}",
        "--trainer.enable_progress_bar=false",
        f"--data.prompts_per_iteration={16 * steps}",
        f"--trainer.limit_train_batches={steps}",  # batches of one category may be more
        "--trainer.limit_val_batches=1",
        "--trainer.limit_test_batches=1",
        "--model.evaluation.n=1",
        "--selection.cooldown=3",
        f"--seed_everything={seed}",
        f"--runs_dir={runs_dir}",
        f"--name=faults-{granularity}",
    ]


def run(granularity: str, rate: float, iterations: int, steps: int, seed: int = 0) -> Outcome:
    """Do a fit and see where its faults ended."""
    import faulty
    import torch

    from laser_pl.commands.cli import main as laser_pl
    from laser_pl.data.pairs import Pairing

    pairs: Counter[str] = Counter()
    pair = Pairing.pair

    def watched(pairing: Pairing, batch: Any, scores: torch.Tensor, *rest: Any) -> Any:
        made = pair(pairing, batch, scores, *rest)
        for response in (made.chosen, made.rejected):
            pairs["checked"] += len(made)
            pairs["invalid"] += int((~scores[made.prompt, response].isfinite()).sum())
        return made

    with tempfile.TemporaryDirectory() as runs_dir:
        arguments = command(granularity, rate, iterations, steps, runs_dir, seed)
        with mock.patch.object(Pairing, "pair", watched), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            folder = laser_pl(arguments).folder
        summary = json.loads(folder.summary.read_text())
        decisions = [json.loads(line) for line in folder.selection.read_text().splitlines()]
        with folder.metrics.open() as file:
            metrics = [float(cell) for row in csv.DictReader(file) for cell in row.values() if cell]
        checkpoint = torch.load(folder.checkpoint, weights_only=True)
    by_step = {decision["step"]: decision["missing"] for decision in decisions}  # of the whole batch, in every line
    summed: dict[str, Counter[str]] = {}
    for missing in by_step.values():
        for arm, kinds in missing.items():
            summed.setdefault(arm, Counter()).update(kinds)
    outcome = Outcome(
        injected={arm: dict(kinds) for arm, kinds in faulty.LEDGER.items()},
        summed_up=summary["labels_missing"],
        summed_steps={arm: dict(kinds) for arm, kinds in summed.items()},
        calls=sum(faulty.CALLS.values(), Counter()),
        checked=Counter({"responses in pairs": pairs["checked"]}),
        invalid=Counter({"responses in pairs": pairs["invalid"]}),
        steps=summary["steps"],
        steps_without_pairs=summary["steps_without_pairs"],
    )
    losses = [decision[part] for decision in decisions for part in ("loss", "dpo", "nll") if decision[part] is not None]
    outcome.look_at("losses of decisions", iter(losses))
    outcome.look_at(
        "other numbers of decisions", numbers([(d["mean"], d["bonus"], d["observed"], d["reward"]) for d in decisions])
    )
    outcome.look_at("metrics", iter(metrics))
    (selection,) = (state for name, state in checkpoint["callbacks"].items() if name.startswith("RewardSelection"))
    learned = [selection[part] for part in ("bandit", "context", "signal", "normalizer")]
    learned[0].pop("generator")  # random bytes, finite whatever happens
    outcome.look_at("numbers of the bandit's state", numbers(learned))
    outcome.look_at(
        "numbers of adapter and optimizer", numbers([checkpoint["state_dict"], checkpoint["optimizer_states"]])
    )
    return outcome


def table(outcomes: dict[str, Outcome]) -> list[str]:
    """The Markdown table: per reward model and kind, what was injected and what was counted."""
    head = ["| reward model | kind |", "|---|---|"]
    for granularity in outcomes:
        head[0] += f" per {granularity}: injected | `summary.json` | `selection.jsonl` |"
        head[1] += "---|---|---|"
    lines = []
    for same in zip(*(outcome.rows for outcome in outcomes.values()), strict=True):
        cells = [str(count) for row in same for count in row[2:]]
        lines.append(f"| {' | '.join([*same[0][:2], *cells])} |")
    return [*head, *lines]


def page(outcomes: dict[str, Outcome], rate: float, words: str) -> str:
    """The section."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "transformers"))
    lines = [
        "## Reward models that fail",
        "",
        f"Written by `{words}`, {platform.system()}, Python {platform.python_version()}, {versions}. Every call of a"
        f" reward model fails with probability {rate:g}. Counts are responses left without a label.",
        "",
        *table(outcomes),
        "",
    ]
    for granularity, outcome in outcomes.items():
        different = sum(not a == b == c for _, _, a, b, c in outcome.rows)
        faults = outcome.calls.total() - outcome.calls["sound"]
        found = ", ".join(f"{outcome.invalid[sort]} in {count} {sort}" for sort, count in outcome.checked.items())
        lines += [
            f"Per {granularity}: {outcome.steps} steps, {outcome.steps_without_pairs} of them without pairs;"
            f" {faults} of {outcome.calls.total()} calls failed; {different} of {len(outcome.rows)} rows differ."
            f" Not finite: {found}.",
            "",
        ]
    return "\n".join(lines)


def main(args: list[str] | None = None) -> int:
    """Run, print and write; 0 if all that was injected was counted and nothing got through."""
    parser = parser_of(__doc__, HERE / "RESULTS.md")
    parser.add_argument("--rate", type=float, default=0.3, help="probability that a call fails")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40, help="of each iteration")
    parser.add_argument("--granularities", nargs="+", choices=[*GRANULARITIES], default=[*GRANULARITIES])
    parser.add_argument("--seed", type=int, default=0, help="of the faults and of training")
    arguments = parser.parse_args(args)
    log, before = logging.getLogger("laser_pl"), Path.cwd()
    log.setLevel(logging.ERROR)  # else a warning for each first failure
    os.chdir(ROOT)  # the configurations name their files from here
    try:
        outcomes = {
            granularity: run(granularity, arguments.rate, arguments.iterations, arguments.steps, arguments.seed)
            for granularity in arguments.granularities
        }
    finally:
        log.setLevel(logging.NOTSET)
        os.chdir(before)
    text = page(outcomes, arguments.rate, command_of("faults", args, "tests/long"))
    tell(arguments.results, "faults", text)
    return 0 if all(outcome.holds for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
