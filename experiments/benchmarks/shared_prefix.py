"""Prompts that begin alike, as with a system's message or examples before the question: the beginning read once or not.

Sampling, the log-probabilities of what was sampled, and a DPO step, each timed as it is and with the shared prefix left
to every prompt. Everything else is as in ``rollouts.py`` and ``dpo_step.py``.

Run:  OMP_NUM_THREADS=2 python experiments/benchmarks/shared_prefix.py
Cost: 2 CPU cores, about 4 minutes, 4 GB of memory.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dpo_step import our_step
from models import add_dtypes, add_model, described, load, rollout_batch
from results import command_of, parser_of, tell
from rollouts import ours
from timing import Timed, alternate, conditions

NEVER = 10**9
Calls = dict[str, Callable[[], Any]]


def stages(model: Any, batch: Any, length: int) -> Calls:
    """What is timed, by name."""
    import torch

    from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
    from laser_pl.models.language_model import Lora

    prompts, n = len(batch), batch.responses.tokens.shape[1]
    policy = Lora(dropout=0.0).wrap(model)
    responses = [part.flatten(0, 1) for part in (batch.responses.tokens, batch.responses.mask)]
    responses = ResponseBatch(batch.prompts, torch.arange(prompts).repeat_interleave(n), *responses)
    return {
        "sampling": ours(policy.get_base_model(), batch.prompts, n, length),
        "log-probabilities": lambda: LogprobModel(policy, 16384).all_logprobs(responses),
        "DPO step": our_step(policy, batch, 16384),
    }


def each_for_itself(call: Callable[[], Any]) -> Callable[[], Any]:
    """The same, but no start is long enough to be read once."""
    from laser_pl.logprobs import shared_prefix

    def slow() -> Any:
        usual, shared_prefix.SHARED_PREFIX_FROM = shared_prefix.SHARED_PREFIX_FROM, NEVER
        try:
            return call()
        finally:
            shared_prefix.SHARED_PREFIX_FROM = usual

    return slow


def measure(arguments: argparse.Namespace, dtype: str) -> tuple[dict[str, tuple[Timed, Timed]], float]:
    """One element type: times with and without, and how far the log-probabilities are apart in nats."""
    model = load(arguments.model, dtype, arguments.shape)
    batch = rollout_batch(model, arguments.prompts, arguments.prompt, arguments.n, arguments.new, pairs=4)
    batch.prompts.tokens[:, : arguments.common] = batch.prompts.tokens[0, : arguments.common]
    times = {}
    calls = stages(model, batch, arguments.new)
    for name, call in calls.items():
        found = alternate({"once": call, "each": each_for_itself(call)}, arguments.repeats)
        times[name] = found["once"], found["each"]
    read = calls["log-probabilities"]
    return times, float((read() - each_for_itself(read)()).abs().max())


def page(results: dict[str, tuple[dict[str, tuple[Timed, Timed]], float]], arguments: Any, command: str) -> str:
    """The section."""
    lines = [
        "## Prompts that begin alike",
        "",
        f"Written by `{command}`, {conditions('peft')}. Model: {described(arguments.model)} with LoRA;"
        f" {arguments.prompts} prompts of {arguments.prompt} tokens of which the first {arguments.common} are the same,"
        f" {arguments.n} responses of {arguments.new} tokens, 4 pairs each; medians of {arguments.repeats} rounds in"
        " turn (smallest to largest). Memory is the largest resident set above the start.",
        "",
        "| | stage | start read once | memory | by every prompt | memory | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for dtype, (times, _) in results.items():
        for name, (once, each) in times.items():
            memory = [f"{timed.memory / 2**20:.0f} MiB" for timed in (once, each)]
            ratio = f"{each.median / once.median:.1f}x"
            lines.append(f"| {dtype} | {name} | {once} | {memory[0]} | {each} | {memory[1]} | {ratio} |")
    apart = ", ".join(f"{far:.1e} in {dtype}" for dtype, (_, far) in results.items())
    return "\n".join([*lines, "", f"Log-probabilities of responses differ by at most (nats): {apart}."])


def main(args: list[str] | None = None, shape: dict[str, Any] | None = None) -> int:
    """Measure, print and write.

    Args:
        args: The command line.
        shape: Of a random model, for a short form.
    """
    parser = parser_of(__doc__)
    add_model(parser)
    add_dtypes(parser)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=136, help="tokens of a prompt")
    parser.add_argument("--common", type=int, default=104, help="of them, those that all begin with")
    parser.add_argument("--n", type=int, default=6)
    parser.add_argument("--new", type=int, default=10, help="tokens of a response")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(args)
    arguments.shape = shape
    results = {dtype: measure(arguments, dtype) for dtype in arguments.dtypes}
    text = page(results, arguments, command_of("shared_prefix", args))
    tell(arguments.results, "shared_prefix", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
