"""Sampling n responses to each prompt: ours, ``generate(num_return_sequences=n)``, and one sample per call.

All sample the same number of tokens at temperature 0.8 from the whole vocabulary; the end token is one that is next to
never sampled, so that nobody saves work by luck. One sample per call is the form of the authors' released code; some of
the calls are timed, and the time for all follows from that. Before anything is timed, greedy token ids must be equal.

Run:  OMP_NUM_THREADS=2 python experiments/benchmarks/rollouts.py
Cost: 2 CPU cores, about 4 minutes, 2 GB of memory.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models import add_dtypes, add_model, described, load, prompt_batch, tokenizer_of
from results import command_of, parser_of, tell
from timing import Timed, alternate, conditions, verdict

TARGET = 4.0
CALLS_OF_ONE = 4
TEMPERATURE = 0.8


def ours(model: Any, prompts: Any, n: int, length: int) -> Callable[[], Any]:
    """What the data module does."""
    from laser_pl.generation.sampler import sample_responses
    from laser_pl.generation.sampling import Sampling

    sampling = Sampling(n=n, temperature=TEMPERATURE, max_new_tokens=length)
    return lambda: sample_responses(model, tokenizer_of(model), prompts, sampling, seed=0)


def generate(model: Any, prompts: Any, n: int, length: int) -> Callable[[], Any]:
    """What a library's user does."""
    import torch

    tokenizer = tokenizer_of(model)

    def call() -> Any:
        with torch.no_grad():
            return model.generate(
                input_ids=prompts.tokens,
                attention_mask=prompts.mask,
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                top_p=1.0,
                num_return_sequences=n,
                max_new_tokens=length,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )

    return call


def one_by_one(model: Any, prompts: Any, length: int) -> Callable[[], Any]:
    """Some calls of one sample each."""
    from dataclasses import replace

    first = replace(prompts, prompts=prompts.prompts[:1], tokens=prompts.tokens[:1], mask=prompts.mask[:1])
    call = generate(model, first, 1, length)
    return lambda: [call() for _ in range(CALLS_OF_ONE)]


def same_greedy(model: Any, prompts: Any, length: int) -> bool:
    """Whether ours and plain generation find the same ids."""
    import torch

    from laser_pl.generation.sampler import sample_responses
    from laser_pl.generation.sampling import Sampling

    tokenizer = tokenizer_of(model)
    found = sample_responses(model, tokenizer, prompts, Sampling(n=1, temperature=0, max_new_tokens=length), seed=0)
    with torch.no_grad():
        expected = model.generate(
            input_ids=prompts.tokens,
            attention_mask=prompts.mask,
            do_sample=False,
            max_new_tokens=length,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )[:, prompts.tokens.shape[1] :]
    return bool(torch.equal(found.tokens[:, 0], expected))


def measure(arguments: argparse.Namespace, dtype: str) -> tuple[dict[str, Timed], bool]:
    """One element type."""
    model = load(arguments.model, dtype, arguments.shape)
    prompts = prompt_batch(model, arguments.prompts, arguments.prompt)
    same = same_greedy(load(arguments.model, "float32", arguments.shape), prompts, arguments.new)
    calls = {
        "ours": ours(model, prompts, arguments.n, arguments.new),
        "generate": generate(model, prompts, arguments.n, arguments.new),
        "one by one": one_by_one(model, prompts, arguments.new),
    }
    return alternate(calls, arguments.repeats), same


def page(results: dict[str, tuple[dict[str, Timed], bool]], arguments: argparse.Namespace, command: str) -> str:
    """The section."""
    tokens = arguments.prompts * arguments.n * arguments.new
    lines = [
        "## Rollouts",
        "",
        f"Written by `{command}`, {conditions()}. Model: {described(arguments.model)}; {arguments.prompts} prompts of"
        f" {arguments.prompt} tokens, {arguments.n} responses of {arguments.new}; medians of {arguments.repeats} rounds"
        f" in turn (smallest to largest). One sample per call: {CALLS_OF_ONE} calls timed, scaled to all"
        f" {arguments.prompts * arguments.n}. Memory is the largest resident set above the start."
        " Greedy ids are compared in float32.",
        "",
        "| | ours | tokens/s | memory | other | it takes | tokens/s | memory | ratio | target | same greedy ids |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for dtype, (times, same) in results.items():
        mine = times["ours"]
        for name, label in (("generate", "`generate`"), ("one by one", "one sample per call")):
            timed = times[name]
            factor = 1.0 if name == "generate" else arguments.prompts * arguments.n / CALLS_OF_ONE
            took = timed.median * factor
            target = verdict(took / mine.median, TARGET) if name == "generate" else ""
            lines.append(
                f"| {dtype} | {mine} | {tokens / mine.median:.0f} | {mine.memory / 2**20:.0f} MiB | {label} |"
                f" {timed if factor == 1 else f'{took:.2f} s'} | {tokens / took:.0f} | {timed.memory / 2**20:.0f} MiB |"
                f" {took / mine.median:.1f}x | {target} | {'yes' if same else 'no'} |"
            )
    return "\n".join(lines)


def profile(arguments: argparse.Namespace) -> None:
    """Print where the time of ours goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    for dtype in arguments.dtypes:
        model = load(arguments.model, dtype, arguments.shape)
        prompts = prompt_batch(model, arguments.prompts, arguments.prompt)
        call = ours(model, prompts, arguments.n, arguments.new)
        call()
        with profiler(activities=[ProfilerActivity.CPU]) as seen:
            call()
        print(dtype)
        print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


def main(args: list[str] | None = None, shape: dict[str, Any] | None = None) -> int:
    """Measure, print and write.

    Args:
        args: The command line.
        shape: Of a random model, for a short form.
    """
    parser = parser_of(__doc__)
    add_model(parser)
    add_dtypes(parser)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--n", type=int, default=30)
    parser.add_argument("--new", type=int, default=48, help="tokens of a response")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print a profile of ours, and no more")
    arguments = parser.parse_args(args)
    arguments.shape = shape
    if arguments.profile:
        profile(arguments)
        return 0
    results = {dtype: measure(arguments, dtype) for dtype in arguments.dtypes}
    text = page(results, arguments, command_of("rollouts", args))
    tell(arguments.results, "rollouts", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
