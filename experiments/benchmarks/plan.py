"""What `plan` says of a run with SmolLM2-135M-Instruct, held against that run: memory, work and disk.

The plan and the fit are made in fresh processes, one after the other. The peak is the process's largest resident set
(VmHWM), of which the plan knows the tensors and this process's libraries, and not what the allocator keeps of freed
memory, nor what kernels keep for themselves. So the resident set after the imports and the peak of tensors alive in
each phase are told as well; these are counted (``laser_pl.forecast.live_bytes``) in a fit of their own, since counting
takes time and memory.

First: python experiments/smollm2/prepare.py
Run:   OMP_NUM_THREADS=1 python experiments/benchmarks/plan.py
Cost:  1 CPU core, 4 minutes of CPU time, 3 GB of memory.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results import command_of, parser_of, tell
from timing import conditions, resident

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "smollm2" / "SmolLM2-135M-Instruct"
PHASES = ("evaluation", "rollouts", "scoring", "training")


@dataclass
class Numbers:
    """What was told, or measured.

    Attributes:
        peak: Bytes that the process has at most.
        phases: Bytes of tensors alive at most in each phase, beside what lies there anyway.
        steps: Training steps.
        forwards: Reward-model forwards.
        tokens: Tokens of the responses.
        disk: Bytes in the run's folder, but for its page.
    """

    peak: int = 0
    phases: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    forwards: int = 0
    tokens: int = 0
    disk: int = 0


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        folder: Where its files lie.
        counted: Whether tensors alive are counted.
    """

    folder: Path
    counted: bool = False

    @property
    def words(self) -> list[str]:
        """Its command line."""
        return [f"--config={self.folder / 'run.yaml'}"]


def configuration(folder: Path, model: Path, dtype: str, iterations: int, prompts: int) -> dict[str, Any]:
    """Questions with ten answers to choose from, whose responses are cut before they are through."""
    rows = [
        {
            "prompt": f"{number} + {number % 7} =\n"
            + "\n".join(f" {'ABCDEFGHIJ'[i]}. {number + i}" for i in range(10)),
            "answer": "ABCDEFGHIJ"[number % 7],
        }
        for number in range(prompts)
    ]
    for name, own in (("train", rows), ("test", rows[:4])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, own)))
    weights = {"weights": {"name": str(model), "dtype": dtype}}
    return {
        "name": "plan",
        "runs_dir": str(folder / "runs"),
        "trainer": {"accelerator": "cpu", "max_epochs": iterations, "enable_progress_bar": False},
        "model": {**weights, "evaluation": {"n": 2, "max_new_tokens": 16}},
        "data": {
            "train": str(folder / "train.jsonl"),
            "validation": str(folder / "test.jsonl"),
            "test": str(folder / "test.jsonl"),
            "columns": {"category": None},
            "template": {"class_path": "laser_pl.data.templates.Chat"},
            "rollouts": {"n": 4, "max_new_tokens": 24},
            "batch_size": 5,
            "rollout_batch_size": 5,
        },
        "selection": {
            "reward_models": {
                "likelihood": {"class_path": "laser_pl.rewards.Likelihood", "init_args": weights},
                "right": {"class_path": "laser_pl.rewards.Verifier"},
            },
            "bandit": {"class_path": "laser_pl.bandits.RoundRobin"},
            "pairs": {"class_path": "laser_pl.data.pairs.RandomPairs", "init_args": {"per_prompt": 3}},
        },
    }


def told(job: Job) -> Numbers:
    """What the plan says; in a fresh process, since its libraries count."""
    from rich.console import Console

    from laser_pl.forecast.command import plan

    found = plan(job.words, Console(file=io.StringIO()))
    assert found.work is not None
    assert found.forwards is not None
    (device,) = found.devices
    phases = {phase.name: phase.size or 0 for phase in device.phases}
    return Numbers(
        device.at_peak, phases, found.work.steps, found.forwards.most, found.work.tokens, found.written
    )  # fmt: skip


def measured(job: Job) -> Numbers:
    """What the fit takes; in a fresh process, since peaks stay."""
    import torch
    from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization

    from laser_pl.commands.cli import main
    from laser_pl.forecast.live_bytes import LiveBytes
    from laser_pl.policy.policy import Policy
    from laser_pl.selection.selector import Selector

    numbers = Numbers()

    def counted(call: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(self, Selector):  # loading is no scoring
                for name in self.pool.names:
                    self.pool.memory.hold(name, torch.device("cpu"))
            with LiveBytes([found for found in gc.get_objects() if issubclass(type(found), torch.Tensor)]) as live:
                result = call(self, *args, **kwargs)
            numbers.phases[phase] = max(numbers.phases.get(phase, 0), live.peak)
            return result

        return wrapped

    owners: list[tuple[Any, str]] = [
        (Policy, "_count"), (Policy, "roll_out"), (Selector, "label"),
        (_AutomaticOptimization, "run"),
    ]  # fmt: skip
    with ExitStack() as stack:
        if job.counted:
            for phase, (owner, method) in zip(PHASES, owners, strict=True):
                stack.enter_context(mock.patch.object(owner, method, counted(getattr(owner, method), phase)))
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            command = main(["fit", *job.words])
    folder = command.folder.path
    files = [path for path in folder.rglob("*") if path.is_file() and path != command.folder.report]
    numbers.peak = resident("VmHWM")
    numbers.steps = command.summary["steps"]
    numbers.forwards = sum(command.summary["reward_model_forwards"].values())
    numbers.tokens = sum(_tokens(path) for path in (folder / "rollouts").rglob("*.parquet"))
    numbers.disk = sum(path.stat().st_size for path in files)
    return numbers


def _tokens(chunk: Path) -> int:
    import pyarrow.parquet as pq

    return sum(len(one) for row in pq.read_table(chunk)["tokens"].to_pylist() for one in row)


def in_fresh_process(call: Callable[[Job], Numbers], job: Job) -> Numbers:
    """What the call returns, from a new interpreter."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(call, job).result()


def rows(dtype: str, plan: Numbers, run: Numbers, counted: Numbers) -> list[str]:
    """Rows of the table."""
    found = [("peak of the process (resident set)", plan.peak, run.peak, 2**20)]
    found += [(f"tensors in {phase}", plan.phases[phase], counted.phases[phase], 2**20) for phase in PHASES]
    found += [("disk (told: at most)", plan.disk, run.disk, 2**20)]
    lines = [
        f"| {dtype} | {name} | {one / unit:.1f} MiB | {other / unit:.1f} MiB | {one / other - 1:+.1%} |"
        for name, one, other, unit in found
    ]
    counts = (("steps", plan.steps, run.steps), ("reward-model forwards", plan.forwards, run.forwards),
              ("tokens (told: at most)", plan.tokens, run.tokens))  # fmt: skip
    return lines + [f"| {dtype} | {name} | {one} | {other} | {one / other - 1:+.1%} |" for name, one, other in counts]


def run(arguments: argparse.Namespace, command: str) -> str:
    """Both commands for every type; returns the section."""
    lines = []
    for dtype in arguments.dtypes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = configuration(folder, arguments.model.resolve(), dtype, arguments.iterations, arguments.prompts)
            (folder / "run.yaml").write_text(json.dumps(config))
            plan = in_fresh_process(told, Job(folder))
            fit = in_fresh_process(measured, Job(folder))
            counted = in_fresh_process(measured, Job(folder, counted=True))
        lines += rows(dtype, plan, fit, counted)
        print("\n".join(lines), flush=True)
    return "\n".join(
        [
            "## What `plan` says and what the run takes",
            "",
            f"Written by `{command}`, {platform.system()}, Python {platform.python_version()}, {conditions('peft')}."
            f" Policy and one of two reward models: {arguments.model.name}, LoRA of rank 16;"
            f" {arguments.iterations} iterations of {arguments.prompts} prompts with 4 responses of at most 24 tokens.",
            "",
            "| weights as | what | plan | run | plan is off by |",
            "|---|---|---|---|---|",
            *lines,
        ]
    )


def main(args: list[str] | None = None) -> None:
    """Tell, measure, print and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["bfloat16"])
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=15)
    arguments = parser.parse_args(args)
    text = run(arguments, command_of("plan", args))
    tell(arguments.results, "plan", text)


if __name__ == "__main__":
    main()
