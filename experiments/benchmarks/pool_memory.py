"""Peak memory of training with 1, 2, 4 and 8 reward models: with room for one of them, and with all of them resident.

It makes a policy and the reward models itself (random weights, loaded as float32), as large as --parameters says, and
does the same real ``fit`` with every number of reward models, each in a fresh process. They are chosen in turn, so that
with a memory budget of one reward model every step has to swap, which is the worst case.

The peak is the process's largest resident set (VmHWM) less what was resident after the imports. Weights that were saved
as float32 stay where their file is mapped into memory; those that were saved as bfloat16 are converted, thus copied to
memory of their own, and the pages of the file come on top while that goes on. The resident set counts both.

Run:  OMP_NUM_THREADS=1 python experiments/benchmarks/pool_memory.py
Cost: 1 to 2 CPU cores, 5 minutes of CPU time, 3 GB of memory, 2 GB of disk.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results import command_of, parser_of, tell
from timing import resident

HERE = Path(__file__).resolve().parent
TOKENIZER = HERE.parent / "quickstart" / "policy"
LAYERS = 8
PROMPTS_PER_STEP = 2


@dataclass(frozen=True)
class Job:
    """One fit.

    Attributes:
        folder: Where the models are.
        arms: How many reward models.
        budget: Bytes for reward models; null keeps all.
        steps: Training steps.
    """

    folder: Path
    arms: int
    budget: int | None
    steps: int


@dataclass(frozen=True)
class Measured:
    """What it took.

    Attributes:
        peak: Bytes.
        loads: How often a reward model was loaded.
        swapping: Seconds for that, eviction included, over the whole fit.
        stepping: Seconds for the training steps alone.
        fitting: Seconds for rollouts, scoring (loads included) and steps.
    """

    peak: int
    loads: int
    swapping: float
    stepping: float
    fitting: float


# -- models ------------------------------------------------------------------------------------------------------------


def make_models(folder: Path, arms: int, parameters: float, dtype: str) -> dict[str, int]:
    """Save a policy and reward models; says how many bytes each of the latter has, and parameters."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
    from transformers.utils import logging

    from laser_pl.models.language_model import Weights
    from laser_pl.rewards import SequenceClassifier

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    hidden = 16 * math.ceil(math.sqrt(parameters / (16 * LAYERS)) / 16)  # a layer has 4 + 3 * 4 matrices of its square
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        num_labels=1,
    )
    for name in ["policy", *map(reward_model, range(arms))]:
        model = (LlamaForCausalLM if name == "policy" else LlamaForSequenceClassification)(config)
        model.to(getattr(torch, dtype)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    weights = Weights(str(folder / reward_model(0)), dtype="float32")
    return {"bytes": SequenceClassifier(weights).size(), "parameters": model.num_parameters()}


def reward_model(arm: int) -> str:
    """Its folder's name."""
    return f"reward_model_{arm}"


# -- fits --------------------------------------------------------------------------------------------------------------


def configuration(job: Job) -> dict[str, Any]:
    """A fit that is about weights: few prompts, few and short responses."""
    rows = [{"prompt": f"S {i}=", "answer": "", "category": "sorting"} for i in range(PROMPTS_PER_STEP * job.steps)]
    for name, own in (("train", rows), ("test", rows[:1])):
        (job.folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, own)))
    test = str(job.folder / "test.jsonl")

    def weights(name: str) -> dict[str, Any]:
        return {"weights": {"name": str(job.folder / name), "dtype": "float32"}}

    arms = {
        reward_model(arm): {
            "class_path": "laser_pl.rewards.SequenceClassifier",
            "init_args": weights(reward_model(arm)),
        }
        for arm in range(job.arms)
    }
    return {
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False},
        "model": {**weights("policy"), "evaluation": {"n": 1, "max_new_tokens": 4}},
        "data": {
            "train": str(job.folder / "train.jsonl"),
            "validation": test,
            "test": test,
            "rollouts": {"n": 4, "max_new_tokens": 4},
            "batch_size": PROMPTS_PER_STEP,
            "rollout_batch_size": PROMPTS_PER_STEP,
        },
        "selection": {
            "reward_models": arms,
            "bandit": {"class_path": "laser_pl.bandits.RoundRobin"},
            "memory_budget": None if job.budget is None else f"{job.budget}B",
        },
        "runs_dir": str(job.folder / "runs"),
    }


def measure(job: Job) -> Measured:
    """Do a fit and see what it takes; for the peak to mean anything, in a fresh process."""
    from laser_pl.commands.cli import main
    from laser_pl.rewards.memory import Memory

    seconds = []
    hold = Memory.hold

    def timed(memory: Memory, name: str, device: Any) -> None:
        is_new, started = name not in memory.held, time.perf_counter()
        hold(memory, name, device)
        if is_new:
            seconds.append(time.perf_counter() - started)

    (job.folder / "fit.yaml").write_text(json.dumps(configuration(job)))
    before = resident("VmRSS")
    with mock.patch.object(Memory, "hold", timed), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        summary = main(["fit", "--config", str(job.folder / "fit.yaml")]).summary
    used = [name for name, count in summary["reward_model_forwards"].items() if count]
    assert len(used) == job.arms, f"only {used} were used"
    took = summary["seconds"]
    fitting = took["rollouts"] + took["scoring"] + took["steps"]
    return Measured(resident("VmHWM") - before, len(seconds), sum(seconds), took["steps"], fitting)


def overlap(folder: Path, repeats: int = 7) -> float:
    """Time of a training step with a load beside it, relative to one after the other; the median of some tries."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from laser_pl.models.language_model import Weights
    from laser_pl.runtime.noise import quieten

    quieten()
    policy = Weights(str(folder / "policy"), dtype="float32").load()
    tokens = torch.randint(3, policy.config.vocab_size, (8 * PROMPTS_PER_STEP, 16))

    def step() -> None:
        policy(tokens, labels=tokens).loss.backward()
        policy.zero_grad()

    def load() -> None:
        model = Weights(str(folder / reward_model(0)), dtype="float32").load(AutoModelForSequenceClassification)
        sum(
            float(parameter.detach().sum()) for parameter in model.parameters()
        )  # a mapped file is read when it is used

    def seconds(*calls: Callable[[], None]) -> float:
        """All but the last in threads of their own."""
        started = time.perf_counter()
        threads = [threading.Thread(target=call) for call in calls[:-1]]
        for thread in threads:
            thread.start()
        calls[-1]()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    seconds(step), seconds(load)  # the first of each is slower
    return statistics.median(seconds(load, step) / (seconds(load) + seconds(step)) for _ in range(repeats))


def in_fresh_process(call: Callable[[Any], Any], argument: Any) -> Any:
    """What the call returns, from a new interpreter."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(call, argument).result()


# -- results -----------------------------------------------------------------------------------------------------------


def table(results: dict[tuple[str, int], tuple[Measured, Measured]], steps: int) -> list[str]:
    """The Markdown table.

    Args:
        results: Type the weights were saved in and number of reward models, to pool and resident.
        steps: Of each fit.
    """
    lines = [
        "| weights saved as | K | pool peak | resident peak | pool, K to 1 | resident / pool | loads, pool | loads,"
        " resident | seconds per load | swapping per step | a step alone |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (dtype, arms), (pool, everything) in results.items():
        alone = results[dtype, min(k for d, k in results if d == dtype)][0]
        lines.append(
            f"| {dtype} | {arms} | {pool.peak / 2**20:.0f} MiB | {everything.peak / 2**20:.0f} MiB"
            f" | {pool.peak / alone.peak:.3f} | {everything.peak / pool.peak:.2f} | {pool.loads} | {everything.loads}"
            f" | {pool.swapping / pool.loads:.3f} s | {pool.swapping / steps:.3f} s | {pool.stepping / steps:.3f} s |"
        )
    return lines


def page(
    results: dict[tuple[str, int], tuple[Measured, Measured]],
    overlaps: dict[str, float],
    model: dict[str, int],
    steps: int,
    command: str,
) -> str:
    """The section."""
    most = max(arms for _, arms in results)
    sentences = []
    for dtype, ratio in overlaps.items():
        pool = results[dtype, most][0]
        saved = min(pool.swapping, pool.stepping) / pool.fitting
        sentences.append(
            f"{dtype}: a step with a load beside it took {ratio:.2f} of the time of one after the other, and a loader"
            f" that cost nothing and always guessed the next arm would save {saved:.0%} of the fit's time"
        )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "safetensors"))
    return "\n".join(
        [
            "## Memory with K reward models",
            "",
            f"Written by `{command}`, {platform.system()}, Python {platform.python_version()}, {versions},"
            f" {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s). Policy and reward models have"
            f" {model['parameters'] / 1e6:.1f}M parameters each, {model['bytes'] / 2**20:.1f} MiB as float32; {steps}"
            " steps, arms in turn. Pool: `selection.memory_budget` is the size of one reward model. Peaks are resident"
            " sets above that after the imports. Seconds per load include the eviction before it; a mapped file is"
            " partly read at the first forward, which counts as scoring.",
            "",
            *table(results, steps),
            "",
            f"Loading the next arm's weights while the step computes ({'; '.join(sentences)}): it would need room for"
            " what is loaded beside the step, and the next arm is chosen only after the bandit has learned from the"
            " step.",
        ]
    )


def run(arguments: argparse.Namespace, command: str) -> str:
    """All fits; returns the section."""
    steps = arguments.steps or 2 * max(arguments.arms)
    results, overlaps = {}, {}
    for dtype in arguments.saved:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = make_models(folder, max(arguments.arms), arguments.parameters, dtype)
            for arms in sorted(arguments.arms):
                jobs = [Job(folder, arms, budget, steps) for budget in (model["bytes"], None)]
                pool, everything = (in_fresh_process(measure, job) for job in jobs)
                results[dtype, arms] = pool, everything
                print(f"{dtype}, K = {arms}: {asdict(pool)}, {asdict(everything)}", flush=True)
            overlaps[dtype] = in_fresh_process(overlap, folder)
    return page(results, overlaps, model, steps, command)


def main(args: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--arms", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--parameters", type=float, default=50e6, help="of each model, at least")
    parser.add_argument("--saved", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, help="of each fit; twice the largest number of arms if not given")
    arguments = parser.parse_args(args)
    text = run(arguments, command_of("pool_memory", args))
    tell(arguments.results, "pool_memory", text)


if __name__ == "__main__":
    main()
