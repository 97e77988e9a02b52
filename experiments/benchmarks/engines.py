"""Tokens per second of this process and of a vLLM server on the same prompts, and how long each takes up an adapter.

Both sample from one base with one LoRA adapter, which is changed before every round, as training changes it: so a
server is given another one each time. Tokens are those that were sampled, up to each response's end. What the server's
log-probabilities differ from the trainer's is told beside, in nats per token. Where both run on the same cores or card,
they take turns.

Run:  OMP_NUM_THREADS=2 python experiments/benchmarks/engines.py --model FOLDER --url http://127.0.0.1:8000
      beside a server on the same folder, by experiments/engines/vllm.sh FOLDER, or for CPUs as
      tests/generation/serve_vllm.sh starts it. Without --url this process alone is measured.
Cost: 2 CPU cores, about 2 minutes for SmolLM2-135M, 2 GB of memory and the server's 3 GB.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models import SMOLLM2, described, prompt_batch
from results import command_of, parser_of, tell
from timing import Timed, alternate, conditions

TEMPERATURE = 0.8


class Side:
    """One engine: what it sampled, and how far from the trainer.

    Args:
        engine: It.
        model: With the adapter.
        tokenizer: The model's.
        prompts: What it answers.
        sampling: How.
    """

    def __init__(self, engine: Any, model: Any, tokenizer: Any, prompts: Any, sampling: Any) -> None:
        self.engine, self.model, self.tokenizer = engine, model, tokenizer
        self.prompts, self.sampling = prompts, sampling
        self.tokens: list[int] = []
        self.apart: list[float] = []

    def sync(self) -> None:
        """Take up the adapter as it is now."""
        from laser_pl.runtime.process_group import ProcessGroup

        self.engine.publish(self.model, self.tokenizer, ProcessGroup())

    def sample(self) -> None:
        """Answer all prompts."""
        self.responses = self.engine.respond(self.prompts, self.sampling, seed=len(self.tokens))
        self.tokens.append(int(self.responses.mask.sum()))

    def mismatch(self) -> float | None:
        """Nats per token between its log-probabilities of its last responses and the trainer's; None if it has none."""
        from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch

        if self.responses.logprobs is None:
            return None
        ours = LogprobModel(self.model.eval(), 4096).all_logprobs(ResponseBatch.of(self.prompts, self.responses))
        theirs = self.responses.logprobs.flatten()
        return float((ours - theirs).abs().sum() / self.responses.mask.sum())


def changing(model: Any) -> Callable[[], None]:
    """Gives the adapter other weights, a little as a step of training does."""
    import torch

    def change() -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=1e-3)

    return change


def measure(arguments: argparse.Namespace) -> tuple[dict[str, Timed], dict[str, Side]]:
    """Both engines in turn."""
    import torch

    from laser_pl.generation import Sampling, TransformersEngine, VLLMEngine
    from laser_pl.models.language_model import Lora, Weights
    from laser_pl.runtime.noise import quieten

    quieten()
    torch.manual_seed(0)
    weights = Weights(arguments.model, dtype=arguments.dtype)
    model = Lora(rank=arguments.rank, dropout=0.0, targets="all-linear").wrap(weights.load()).to(arguments.device)
    tokenizer = weights.load_policy_tokenizer(arguments.pad_token)
    prompts = prompt_batch(model, arguments.prompts, arguments.prompt).to(arguments.device)
    sampling = Sampling(n=arguments.n, temperature=TEMPERATURE, max_new_tokens=arguments.new)
    engines: dict[str, Any] = {"this process": TransformersEngine()}
    if arguments.url is not None:
        engines["vLLM's server"] = VLLMEngine(arguments.url, arguments.adapters, seeded=False)
    sides = {name: Side(engine, model, tokenizer, prompts, sampling) for name, engine in engines.items()}
    calls: dict[str, Callable[[], object]] = {"change": changing(model)}
    for name, side in sides.items():
        calls |= {f"{name} takes up": side.sync, f"{name} samples": side.sample}
    return alternate(calls, arguments.repeats), sides


def page(times: dict[str, Timed], sides: dict[str, Side], arguments: argparse.Namespace, command: str) -> str:
    """The section."""
    lines = [
        "## Engines",
        "",
        f"Written by `{command}`, {conditions('peft')}, {arguments.device_name}. Model:"
        f" {described(arguments.model)}, {arguments.dtype}, a LoRA adapter of rank {arguments.rank} on all linear"
        f" layers; {arguments.prompts} prompts of {arguments.prompt} tokens, {arguments.n} responses of at most"
        f" {arguments.new}; medians of {arguments.repeats} rounds in turn (smallest to largest), behind one that warms"
        " up. The adapter is another one in every round.",
        "",
        "| engine | samples | tokens | tokens/s | takes up an adapter | from the trainer, nats/token |",
        "|---|---|---|---|---|---|",
    ]
    for name, side in sides.items():
        samples, takes_up = times[f"{name} samples"], times[f"{name} takes up"]
        tokens = side.tokens[1:]
        each = [count / seconds for count, seconds in zip(tokens, samples.seconds, strict=True)]
        apart = side.mismatch()
        lines.append(
            f"| {name} | {samples} | {statistics.median(tokens):.0f} | {statistics.median(each):.0f} |"
            f" {1000 * takes_up.median:.0f} ms | {'0, by itself' if apart is None else f'{apart:.2g}'} |"
        )
    return "\n".join(lines)


def main(args: list[str] | None = None) -> int:
    """Measure, print and write."""
    import torch

    parser = parser_of(__doc__)
    parser.add_argument("--model", default=str(SMOLLM2), help="the folder that the server serves; SmolLM2 if prepared")
    parser.add_argument("--url", help="where the server listens; none: this process alone")
    parser.add_argument("--adapters", help="a folder for adapters that the server sees by the same path")
    parser.add_argument("--pad_token", help="for a tokenizer that names none")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--rank", type=int, default=16, help="the adapter's")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--new", type=int, default=48, help="most tokens of a response")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(args)
    if not Path(arguments.model).is_dir():
        print(f"There is no folder {arguments.model}. Name the one that the server serves by --model.", file=sys.stderr)
        return 2
    card = arguments.device.startswith("cuda")
    arguments.device_name = torch.cuda.get_device_name() if card else "on CPU cores"
    times, sides = measure(arguments)
    tell(arguments.results, "engines", page(times, sides, arguments, command_of("engines", args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
