"""How the time and the memory of one training step grow with prompt length, responses and pairs.

One thing varies at a time; the others stay as the table says. Each point is a fresh process that makes a random Llama
with a LoRA adapter and a batch of two prompts, does one step to warm up and times the next three. Time is their median.
Memory is the process's largest resident set (VmHWM) less what was resident when the model and the batch were there. The
exponent is the slope of a straight line through the logarithms, fitted by least squares.

Run:  OMP_NUM_THREADS=2 python experiments/benchmarks/scale.py
Cost: 2 CPU cores, about 6 minutes, 3 GB of memory.

It writes its section of ``RESULTS.md`` beside itself, or where --results says, and ``scale.png`` beside that.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models import load, rollout_batch
from results import command_of, parser_of, tell
from timing import resident, seconds_of

SHAPE = {
    "vocab_size": 16384,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}


@dataclass(frozen=True)
class Point:
    """A batch.

    Attributes:
        prompt: Tokens of each of the two prompts.
        n: Responses per prompt.
        pairs: Pairs per prompt.
        response: Tokens of each response.
        budget: ``model.tokens_per_forward``.
    """

    prompt: int = 128
    n: int = 30
    pairs: int = 10
    response: int = 48
    budget: int = 4096


@dataclass(frozen=True)
class Cost:
    """Seconds, and bytes above the model's and the batch's own."""

    seconds: float
    memory: int


ROWS = {
    "prompt length": ("prompt", [64, 128, 256, 512, 1024, 2048]),
    "responses n, all in pairs": ("n", [4, 8, 16, 32, 64]),
    "pairs P of 30 responses": ("pairs", [1, 2, 4, 8, 16, 32, 64]),
}


def measure(point: Point) -> Cost:
    """Do four steps; for the peak to mean anything, in a fresh process."""
    from laser_pl.logprobs.logprob_model import LogprobModel
    from laser_pl.models.language_model import Lora
    from laser_pl.objectives import Dpo
    from laser_pl.training.pair_step import batch_loss

    model = Lora(dropout=0.0).wrap(load(None, "float32", SHAPE))
    batch = rollout_batch(model, 2, point.prompt, point.n, point.response, point.pairs)
    logprob_model = LogprobModel(model, point.budget)
    before = resident()

    def step() -> None:
        loss, *_ = batch_loss(batch, logprob_model, Dpo(0.1, 1.0), model.parameters())
        loss.backward()
        model.zero_grad()

    step()
    return Cost(statistics.median(seconds_of(step) for _ in range(3)), resident("VmHWM") - before)


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of the logarithms.

    >>> round(exponent([1, 2, 4], [3.0, 12.0, 48.0]), 6)
    2.0
    """
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def run(rows: dict[str, tuple[str, list[int]]], base: Point) -> dict[str, list[Cost]]:
    """All points, each in a process of its own, one after the other."""
    found: dict[str, list[Cost]] = {}
    for name, (field, sizes) in rows.items():
        for size in sizes:
            point = replace(base, **{field: size})
            if field == "n":  # as many pairs as there can be, so that every response counts
                point = replace(point, pairs=size * (size - 1) // 2)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
                cost = executor.submit(measure, point).result()
            found.setdefault(name, []).append(cost)
            print(f"{name} = {size}: {cost.seconds:.3f} s, {cost.memory / 2**20:.0f} MiB", flush=True)
    return found


def page(rows: dict[str, tuple[str, list[int]]], found: dict[str, list[Cost]], base: Point, command: str) -> str:
    """The section."""
    lines = [
        "## How a step grows",
        "",
        f"Written by `{command}`, torch {version('torch')}, transformers {version('transformers')},"
        f" {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s), float32. A random Llama of the shape"
        f" {json.dumps(SHAPE)}; two prompts; where not varied: {json.dumps(asdict(base))}.",
        "",
        "| what grows | seconds | exponent | MiB above the model | exponent |",
        "|---|---|---|---|---|",
    ]
    for name, (_, sizes) in rows.items():
        seconds, memory = [c.seconds for c in found[name]], [float(c.memory) for c in found[name]]
        took = ", ".join(f"{size}: {s:.2f}" for size, s in zip(sizes, seconds, strict=True))
        held = ", ".join(f"{size}: {m / 2**20:.0f}" for size, m in zip(sizes, memory, strict=True))
        lines.append(f"| {name} | {took} | {exponent(sizes, seconds):.2f} | {held} | {exponent(sizes, memory):.2f} |")
    return "\n".join([*lines, "", "![time and memory of a step](scale.png)"])


def plot(rows: dict[str, tuple[str, list[int]]], found: dict[str, list[Cost]], path: Path) -> None:
    """Time above, memory below, one column for each row of the table."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure, axes = pyplot.subplots(2, len(rows), figsize=(4 * len(rows), 6), squeeze=False, layout="constrained")
    for column, (name, (_, sizes)) in enumerate(rows.items()):
        axes[0, column].loglog(sizes, [c.seconds for c in found[name]], "o-", color="#0072B2")
        axes[1, column].loglog(sizes, [c.memory / 2**20 for c in found[name]], "s-", color="#D55E00")
        axes[1, column].set_xlabel(name)
        for axis in axes[:, column]:
            axis.set_xticks(sizes, [str(size) for size in sizes])
            axis.minorticks_off()
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0, 0].set_ylabel("seconds per step")
    axes[1, 0].set_ylabel("MiB above the model")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(args: list[str] | None = None) -> None:
    """Measure, print, write and draw."""
    parser = parser_of(__doc__)
    parser.add_argument("--points", type=int, help="only the first so many sizes of each row")
    parser.add_argument("--prompt", type=int, default=Point.prompt, help="tokens of a prompt, where not varied")
    parser.add_argument("--response", type=int, default=Point.response, help="tokens of a response")
    arguments = parser.parse_args(args)
    rows = {name: (field, sizes[: arguments.points]) for name, (field, sizes) in ROWS.items()}
    base = Point(prompt=arguments.prompt, response=arguments.response)
    found = run(rows, base)
    text = page(rows, found, base, command_of("scale", args))
    plot(rows, found, arguments.results.with_name("scale.png"))
    tell(arguments.results, "scale", text)


if __name__ == "__main__":
    main()
