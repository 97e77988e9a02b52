"""One DPO step, forward and backward: ours, TRL's ``DPOTrainer``, and the usual concatenated forward.

The batch has some prompts, 30 responses to each and 10 pairs at random, as the paper has them; the model has LoRA of
rank 16 on q_proj and v_proj and no dropout, so that all must find the same loss. TRL gets its fastest settings that do
the same (see ``peers.py``), and the micro-batch that is fastest for it here. "Concatenated" is the textbook form in our
own code: both texts of every pair behind their prompt in one forward of each micro-batch.

The floor is the arithmetic that cannot be avoided: of every token that occurs, once, two operations for each weight in
the forward and as many in the backward pass (the base is frozen), over the rate of a large matrix product here.

Run:  OMP_NUM_THREADS=2 python experiments/benchmarks/dpo_step.py
Cost: 2 CPU cores, about 8 minutes, 6 GB of memory. Needs `pip install -e .[bench]`.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models import add_model, add_step, described, load, rollout_batch
from peers import trl_dpo_step, trl_missing
from results import command_of, parser_of, tell
from timing import Clock, Timed, alternate, conditions, seconds_of, verdict

BETA = 0.1


@dataclass(frozen=True)
class Setting:
    """What one row of the table measures."""

    dtype: str
    prompt: int
    prompts: int
    target: float


SETTINGS = [Setting("float32", 128, 2, 10), Setting("bfloat16", 128, 2, 5), Setting("float32", 512, 1, 20)]


@dataclass(frozen=True)
class Row:
    """What came of it."""

    setting: Setting
    times: dict[str, Timed]
    losses: dict[str, float]
    floor: float
    micro_batch: int


def our_step(model: Any, batch: Any, budget: int) -> Callable[[], float]:
    """What ``Policy.training_step`` does, and the backward pass."""
    from laser_pl.logprobs.logprob_model import LogprobModel
    from laser_pl.objectives import Dpo
    from laser_pl.training.pair_step import batch_loss

    logprob_model = LogprobModel(model, budget)

    def step() -> float:
        loss, *_ = batch_loss(batch, logprob_model, Dpo(BETA, 0.0), model.parameters())
        loss.backward()
        model.zero_grad()
        return float(loss.detach())

    return step


def concatenated_step(model: Any, batch: Any, pairs_at_once: int) -> Callable[[], float]:
    """Both texts of every pair, each behind its prompt."""
    import torch

    from laser_pl.logprobs.padded import response_logprobs
    from laser_pl.objectives.dpo import dpo_loss

    pairs = batch.pairs

    def step() -> float:
        total = 0.0
        for part in torch.arange(len(pairs)).split(pairs_at_once):
            prompt = pairs.prompt[part].repeat(2)
            index = torch.cat([pairs.chosen[part], pairs.rejected[part]])
            logprobs = response_logprobs(
                model,
                batch.prompts.tokens[prompt],
                batch.prompts.mask[prompt],
                batch.responses.tokens[prompt, index],
                batch.responses.mask[prompt, index],
            )
            reference = batch.reference_logprobs[prompt, index].to(logprobs.dtype)
            margin, reference_margin = (x[: len(part)] - x[len(part) :] for x in (logprobs, reference))
            loss = dpo_loss(margin, reference_margin, BETA).sum() / len(pairs)
            loss.backward()
            total += float(loss.detach())
        model.zero_grad()
        return total

    return step


def operations(model: Any, batch: Any) -> int:
    """Arithmetic that cannot be avoided in a step: of every token that occurs, once."""
    import torch

    pairs = batch.pairs
    n, length = batch.responses.tokens.shape[1:]
    used = len(torch.unique(torch.cat([pairs.prompt * n + pairs.chosen, pairs.prompt * n + pairs.rejected])))
    tokens = batch.prompts.tokens.numel() + used * (length - 1)
    # Not the numbers of their weights, of which those in 4 bits are packed.
    head = model.get_output_embeddings()
    of = {m: m.in_features * m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear)}
    body = sum(of.values()) - of[head]
    return int(4 * body * tokens + 4 * of[head] * used * length)


def rate(dtype: str, clock: Clock = time.perf_counter) -> float:
    """Operations per second of the best product of this type.

    They grow until one takes a fifth of a second: a CPU without units for bfloat16 needs minutes for a large one.
    """
    import torch

    best, size, took = 0.0, 128, 0.0
    while size <= 2048 and took < 0.2:
        a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
        a @ b
        took = seconds_of(partial(torch.matmul, a, b), clock)
        best, size = max(best, 2 * size**3 / took), 2 * size
    return best


def floor_seconds(model: Any, batch: Any, dtype: str) -> float:
    """Seconds of that arithmetic, at that rate."""
    return float(operations(model, batch) / rate(dtype))


def measure(arguments: argparse.Namespace, setting: Setting) -> Row:
    """One row."""
    from laser_pl.models.language_model import Lora

    base = load(arguments.model, setting.dtype, arguments.shape)
    batch = rollout_batch(base, setting.prompts, setting.prompt, arguments.n, arguments.response, arguments.pairs)
    floor = floor_seconds(base, batch, setting.dtype)
    ours = Lora(dropout=0.0).wrap(base)
    calls = {"ours": our_step(ours, batch, arguments.budget)}
    best = 1
    if "trl" in arguments.peers:
        step = trl_dpo_step(load(arguments.model, setting.dtype, arguments.shape), batch, BETA)
        tried = {size: partial(step, size) for size in arguments.micro_batches}
        seconds = (
            {size: seconds_of(step) for size, step in tried.items()} if len(tried) > 1 else dict.fromkeys(tried, 0.0)
        )
        best = min(seconds, key=seconds.__getitem__)
        calls["trl"] = tried[best]
    if "concatenated" in arguments.peers:
        calls["concatenated"] = concatenated_step(ours, batch, best)
    losses: dict[str, float] = {}

    def noting(name: str, call: Callable[[], float]) -> Callable[[], None]:
        def run() -> None:
            losses[name] = call()

        return run

    times = alternate({name: noting(name, call) for name, call in calls.items()}, arguments.repeats)
    return Row(setting, times, losses, floor, best)


def page(rows: list[Row], arguments: argparse.Namespace, command: str) -> str:
    """The section."""
    packages = ["peft", *(["trl"] if "trl" in arguments.peers else [])]
    lines = [
        "## A DPO step",
        "",
        f"Written by `{command}`, {conditions(*packages)}. Model: {described(arguments.model)};"
        f" {arguments.n} responses of {arguments.response} tokens, {arguments.pairs} pairs per prompt; medians of"
        f" {arguments.repeats} rounds in turn (smallest to largest). Memory is the largest resident set above the"
        " step's start.",
        "",
        "| | ours | memory | to the floor | other | it takes | memory | ratio | target | loss differs by a share of |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        setting, ours = row.setting, row.times["ours"]
        name = f"{setting.dtype}, prompt {setting.prompt}, {setting.prompts} prompt(s)"
        for other, timed in row.times.items():
            if other == "ours":
                continue
            ratio = timed.median / ours.median
            whose = {"trl": f"TRL, {row.micro_batch} pair(s) at once", "concatenated": "concatenated"}[other]
            target = verdict(ratio, setting.target) if other == "trl" else ""
            lines.append(
                f"| {name} | {ours} | {ours.memory / 2**20:.0f} MiB | {ours.median / row.floor:.1f}x | {whose} |"
                f" {timed} | {timed.memory / 2**20:.0f} MiB | {ratio:.1f}x | {target} |"
                f" {abs(row.losses[other] / row.losses['ours'] - 1):.0e} |"
            )
    return "\n".join(lines)


def profile(arguments: argparse.Namespace) -> None:
    """Print where the time of one of our steps goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    from laser_pl.models.language_model import Lora

    for setting in arguments.settings:
        model = Lora(dropout=0.0).wrap(load(arguments.model, setting.dtype, arguments.shape))
        batch = rollout_batch(model, setting.prompts, setting.prompt, arguments.n, arguments.response, arguments.pairs)
        step = our_step(model, batch, arguments.budget)
        step()
        with profiler(activities=[ProfilerActivity.CPU]) as seen:
            step()
        print(setting)
        print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40))


def main(args: list[str] | None = None, shape: dict[str, Any] | None = None) -> int:
    """Measure, print and write.

    Args:
        args: The command line.
        shape: Of a random model, for a short form.
    """
    parser = parser_of(__doc__)
    add_model(parser)
    parser.add_argument("--peers", nargs="+", choices=["trl", "concatenated"], default=["trl", "concatenated"])
    parser.add_argument("--rows", nargs="+", type=int, default=[0, 1, 2], help="which of the settings")
    parser.add_argument("--prompt", type=int, help="tokens of a prompt instead of the settings'")
    add_step(parser)
    parser.add_argument("--micro_batches", nargs="+", type=int, default=[1, 5], help="pairs at once, tried for TRL")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="print a profile of our step, and no more")
    arguments = parser.parse_args(args)
    arguments.shape = shape
    arguments.settings = [
        Setting(s.dtype, arguments.prompt or s.prompt, s.prompts, s.target)
        for s in (SETTINGS[row] for row in arguments.rows)
    ]
    if arguments.profile:
        profile(arguments)
        return 0
    if "trl" in arguments.peers and trl_missing():
        return 2
    rows = [measure(arguments, setting) for setting in arguments.settings]
    text = page(rows, arguments, command_of("dpo_step", args))
    tell(arguments.results, "dpo_step", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
