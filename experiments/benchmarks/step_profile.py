"""Where the time of a DPO step goes on a CPU, part by part, each beside its own floor.

The step is that of ``dpo_step.py`` with AdamW behind it. Every operation of torch's that it calls, forward and
backward, is timed and put down to a part by its name and shapes. Beside each part stand two floors: what its products
take alone, with the same shapes on memory that is there already; and what they take by arithmetic, at the rate of a
large product. Floors and steps take turns, and times are seconds of the processor, so that what else the machine does
falls on both. "To the floor" is a whole step without this tracing over the arithmetic of all tokens, once, as in
``dpo_step.py``.

Run:  OMP_NUM_THREADS=1 python experiments/benchmarks/step_profile.py
Cost: 1 CPU core, about 5 minutes, 6 GB of memory.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dpo_step import operations, our_step, rate
from models import add_dtypes, add_model, add_step, described, load, rollout_batch
from results import command_of, parser_of, tell
from timing import conditions, seconds_of

RANK = 16
PARTS = (
    "frozen products",
    "LoRA's products",
    "log-probabilities: products",
    "log-probabilities: the rest",
    "attention",
    "its packing",
    "rotary",
    "norms, activation, residuals, casts",
    "optimizer",
    "Python and the rest",
)
PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm")
MOVES = ("index", "split", "select", "sum", "clone", "copy_", "cat", "gather", "zeros", "expand", "fill", "repeat")
Product = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
"""Shapes of both factors, and their type."""


seconds = partial(seconds_of, clock=time.process_time)
"""Of the processor, that a call takes."""


class Traced(TorchDispatchMode):
    """Times every operation.

    Args:
        vocabulary: By which an operation of the head is known.
        head_width: Numbers of an attention head, by which one of attention is known.

    Attributes:
        spent: Seconds of each part.
        products: How often each product occurred, for each part.
        optimizing: Whether these are the optimizer's.
    """

    def __init__(self, vocabulary: int, head_width: int) -> None:
        super().__init__()
        self.vocabulary, self.head_width = vocabulary, head_width
        self.spent: Counter[str] = Counter()
        self.products: dict[str, Counter[Product]] = {part: Counter() for part in PARTS}
        self.optimizing = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operation."""
        began = time.process_time()
        result = func(*args, **(kwargs or {}))
        took = time.process_time() - began
        factors = [each for each in args if isinstance(each, Tensor)]
        name = str(func)
        part = "optimizer" if self.optimizing else self.part_of(name, factors or _tensors(args), args)
        self.spent[part] += took
        if name.startswith(PRODUCTS):
            left, right = factors[-2:]
            self.products[part][(tuple(left.shape), tuple(right.shape), left.dtype)] += 1
        return result

    def part_of(self, name: str, tensors: list[Tensor], args: Any) -> str:
        """The part that an operation belongs to, by its name and the shapes of what it is given."""
        sizes = {size for tensor in tensors for size in tensor.shape}
        if name.startswith(PRODUCTS):
            if RANK in sizes:
                return "LoRA's products"
            return "log-probabilities: products" if self.vocabulary in sizes else "frozen products"
        if self.vocabulary in sizes:
            return "log-probabilities: the rest"
        if "scaled_dot_product" in name:
            return "attention"
        widths = {tensor.shape[-1] for tensor in tensors if tensor.dim() > 2}
        if widths & {self.head_width, self.head_width // 2}:
            along_heads = "cat" in name and args[-1] == -1
            return "its packing" if any(move in name for move in MOVES) and not along_heads else "rotary"
        return "norms, activation, residuals, casts"


def _tensors(args: Any) -> list[Tensor]:
    """Those in lists."""
    return [each for arg in args if isinstance(arg, list | tuple) for each in arg if isinstance(each, Tensor)]


@dataclass(frozen=True)
class Profile:
    """What came of one type.

    Attributes:
        whole: Seconds of a step that is not traced, without the optimizer's.
        floor: Of the arithmetic that cannot be avoided, at the rate of a large product.
        ratio: Of both, in the median of rounds.
        spent: Of each part, traced.
        alone: Of its products alone.
        arithmetic: Of its products at the rate of a large one.
    """

    whole: float
    floor: float
    ratio: float
    spent: Mapping[str, float]
    alone: Mapping[str, float]
    arithmetic: Mapping[str, float]


def alone(products: Mapping[Product, int]) -> float:
    """Seconds of these products on memory that is there already."""
    total = 0.0
    for (left, right, dtype), times in products.items():
        one, other = torch.randn(left).to(dtype), torch.randn(right).to(dtype)
        result = torch.empty(*left[:-1], right[-1], dtype=dtype)
        product = partial(torch.matmul, one, other, out=result)
        product()
        total += times * min(seconds(product) for _ in range(3))
    return total


def work(products: Mapping[Product, int]) -> int:
    """Operations: two for each multiplication."""
    return sum(2 * math.prod(left) * right[-1] * times for (left, right, _), times in products.items())


def measure(arguments: argparse.Namespace, dtype: str) -> Profile:
    """Profile steps of one type."""
    from laser_pl.models.language_model import Lora

    base = load(arguments.model, dtype, arguments.shape)
    batch = rollout_batch(base, arguments.prompts, arguments.prompt, arguments.n, arguments.response, arguments.pairs)
    needed = operations(base, batch)
    model = Lora(rank=RANK, dropout=0.0).wrap(base)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    step = our_step(model, batch, arguments.budget)
    step()
    rates, wholes, traces = [], [], []
    for _ in range(arguments.repeats):
        rates.append(max(rate(dtype, time.process_time) for _ in range(2)))
        wholes.append(seconds(step))
        traced = Traced(base.config.vocab_size, base.config.hidden_size // base.config.num_attention_heads)
        with traced:
            whole = seconds(step)
            traced.spent["Python and the rest"] = whole - traced.spent.total()
            for parameter in trained:
                parameter.grad = torch.ones_like(parameter)
            traced.optimizing = True
            optimizer.step()
        traces.append(traced)
    middle, best = statistics.median, statistics.median(rates)
    products = traces[0].products
    return Profile(
        middle(wholes),
        middle(needed / own for own in rates),
        middle(whole / (needed / own) for whole, own in zip(wholes, rates, strict=True)),
        {part: middle(traced.spent[part] for traced in traces) for part in PARTS},
        {part: alone(counted) for part, counted in products.items()},
        {part: work(counted) / best for part, counted in products.items()},
    )


def page(profiles: Mapping[str, Profile], arguments: argparse.Namespace, command: str) -> str:
    """The section."""
    lines = [
        "## Where a step's time goes",
        "",
        f"Written by `{command}`, {conditions('peft')}. Model: {described(arguments.model)};"
        f" {arguments.prompts} prompts of {arguments.prompt} tokens, {arguments.n} responses of {arguments.response},"
        f" {arguments.pairs} pairs per prompt; medians of {arguments.repeats} rounds in turn, in seconds of the"
        " processor. LoRA's sums and factors are counted among residuals.",
        "",
        "| | part | traced | of the step | its products alone | by arithmetic |",
        "|---|---|---|---|---|---|",
    ]
    for dtype, found in profiles.items():
        whole = sum(found.spent.values())
        for part, spent in found.spent.items():
            floors = [f"{floor[part]:.2f} s" if floor[part] else "" for floor in (found.alone, found.arithmetic)]
            lines.append(f"| {dtype} | {part} | {spent:.2f} s | {spent / whole:.0%} | {' | '.join(floors)} |")
    lines.append("")
    for dtype, found in profiles.items():
        lines.append(
            f"{dtype}: a step takes {found.whole:.2f} s, its floor {found.floor:.2f} s: {found.ratio:.2f}x; all of its"
            f" products alone take {sum(found.alone.values()) / found.floor:.2f}x."
        )
    return "\n".join(lines)


def main(args: list[str] | None = None, shape: dict[str, Any] | None = None) -> int:
    """Profile, print and write.

    Args:
        args: The command line.
        shape: Of a random model, for a short form.
    """
    parser = parser_of(__doc__)
    add_model(parser)
    add_dtypes(parser)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    add_step(parser)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(args)
    arguments.shape = shape
    profiles = {dtype: measure(arguments, dtype) for dtype in arguments.dtypes}
    tell(arguments.results, "step_profile", page(profiles, arguments, command_of("step_profile", args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
