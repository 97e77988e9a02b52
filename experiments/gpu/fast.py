"""How fast it is on the card, against others and against what the card can do at best."""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from card import Card, Finding, gib
from runs import BUDGET, Seen, configuration, likelihood
from shapes import folder_of, made_not_loaded, make, prompts_on, rollouts_on
from sizes import Sizes
from transformers import AutoModelForSequenceClassification

from laser_pl.commands.cli import LaserCLI
from laser_pl.models.language_model import Lora
from laser_pl.runtime.attention_kernels import kernels_for_any_shape

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from dpo_step import BETA, operations, our_step
from peers import trl_dpo_step, trl_missing
from rollouts import generate, ours

WIDTHS = 12


def peaks(card: Card, sizes: Sizes) -> Finding:
    """What the shares in the rows below are shares of."""
    text = f"copies {card.bandwidth / 1e9:.0f} GB/s, multiplies {card.rate / 1e12:.3g} TFLOP/s in bfloat16"
    return Finding(text, None, {"bandwidth": card.bandwidth, "rate": card.rate})


def new_shapes(card: Card, sizes: Sizes) -> Finding:
    """Forwards of a classifier over texts of lengths that it has not read before: by torch's choice, and in a run."""
    model = make(sizes.middle, torch.bfloat16, card.device, AutoModelForSequenceClassification)
    took = {}
    for name, kernels in (("torch", nullcontext), ("run", kernels_for_any_shape)):
        with kernels(), torch.no_grad():
            forwards = [partial(_classified, model, width) for width in range(sizes.prompt, sizes.prompt + WIDTHS + 1)]
            took[name] = [card.seconds(forward, warm_up=False) for forward in forwards][1:]  # the first loads kernels
    middle, longest = ({name: call(times) for name, times in took.items()} for call in (statistics.median, max))
    text = (
        f"{WIDTHS} widths: {1e3 * middle['run']:.0f} ms each, the longest {1e3 * longest['run']:.0f} ms; as torch"
        f" chooses kernels {1e3 * middle['torch']:.0f} ms and {1e3 * longest['torch']:.0f} ms"
    )
    return Finding(text, middle["run"] <= 1.2 * middle["torch"] if card.is_cuda else None, middle)


def _classified(model: Any, width: int) -> None:
    """16 texts, padded on the left, the longest of them that wide."""
    lengths = torch.linspace(width // 2, width, 16, device=model.device).ceil()
    mask = (torch.arange(width, device=model.device).flip(0) < lengths[:, None]).long()
    model(input_ids=torch.full_like(mask, 3), attention_mask=mask)


# -- rollouts ----------------------------------------------------------------------------------------------------------


def rollouts(card: Card, sizes: Sizes, quantization: str = "") -> Finding:
    """Sampling against ``generate``; how near reading prompts and writing tokens come to what the card can do."""
    model = make(sizes.large, torch.bfloat16, card.device, quantization=quantization)
    prompts = prompts_on(card, model, sizes)
    short, long = (ours(model, prompts, sizes.n, length) for length in (1, sizes.new))
    prefill = card.seconds(short, sizes.repeats)
    took = card.seconds(long, sizes.repeats)
    generate(model, prompts, sizes.n, 2)()
    others = card.seconds(generate(model, prompts, sizes.n, sizes.new), sizes.repeats, warm_up=False)
    tokens = sizes.prompts * sizes.n * sizes.new
    arithmetic = 2 * weights_of(model) * prompts.tokens.numel() / prefill / card.rate
    bounds = {
        "bandwidth": bytes_read(model, sizes) / card.bandwidth,
        "arithmetic": operations_of(model, sizes) / card.rate,
    }
    bound = max(bounds, key=lambda name: bounds[name])
    decoding = max(took - prefill, 0.0)
    share, steps = bounds[bound] / decoding if decoding else float("nan"), max(sizes.new - 1, 1)
    text = (
        f"{took:.2f} s, {tokens / took:.0f} tokens/s; `generate` {others:.2f} s: {others / took:.1f}x; prompts at"
        f" {arithmetic:.0%} of the card's arithmetic; a token of all in {1e3 * decoding / steps:.1f} ms, where the"
        f" card's {bound} allows {1e3 * bounds[bound] / steps:.1f} ms: {share:.0%}"
    )
    numbers = {"seconds": took, "generate": others, "prefill_utilisation": arithmetic, "decoding": share, **bounds}
    return Finding(text, others > took if card.is_cuda else None, numbers)


def weights_of(model: Any) -> int:
    """Weights that multiply every token: all linear layers, the head left out."""
    head = model.get_output_embeddings()
    return sum(m.in_features * m.out_features for m in model.modules()
               if isinstance(m, torch.nn.Linear) and m is not head)  # fmt: skip


def operations_of(model: Any, sizes: Sizes) -> int:
    """Operations of all linear layers, the head included, for every token of every response but the first."""
    weights = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear))
    return 2 * weights * sizes.prompts * sizes.n * (sizes.new - 1)


def bytes_read(model: Any, sizes: Sizes) -> int:
    """Bytes that cannot but be read from memory to write every token but the first.

    For each token once all linear layers as they lie there; of keys and values a prompt's once for its responses, and
    every response's own so far.
    """
    config = model.config
    layers = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    weights = sum(weight.numel() * weight.element_size() for weight in layers)
    of_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    texts, steps = sizes.prompts * sizes.n, sizes.new - 1
    own = texts * steps * (steps + 1) // 2
    return steps * (weights + sizes.prompts * sizes.prompt * of_token) + own * of_token


# -- a step ------------------------------------------------------------------------------------------------------------


def step(card: Card, sizes: Sizes, quantization: str = "") -> Finding:
    """A DPO step, forward and backward, against TRL's, one after the other, so that one model is there at a time."""
    mine, used = _our_step(card, sizes, quantization)
    text = f"{mine.seconds:.2f} s, {used:.0%} of the card's arithmetic, peak {gib(mine.peak)}"
    numbers = {"seconds": mine.seconds, "utilisation": used, "peak": mine.peak}
    card.free()
    if trl_missing():
        return Finding(f"{text}; TRL is not installed", None, numbers)
    best, other = _trl_step(card, sizes, quantization)
    if other is None:
        return Finding(f"{text}; TRL runs out of memory with {best} pairs at once", None, numbers)
    ratio, apart = other.seconds / mine.seconds, abs(other.loss / mine.loss - 1)
    text = (
        f"{text}; TRL {other.seconds:.2f} s with {best} pairs at once, peak {gib(other.peak)}: {ratio:.1f}x; losses"
        f" differ by {apart:.0e}"
    )
    return Finding(text, ratio > 1 if card.is_cuda else None, {**numbers, "trl": other.seconds, "apart": apart})


@dataclass(frozen=True)
class Step:
    """What one took."""

    seconds: float
    peak: int
    loss: float


def _timed(card: Card, call: Callable[[], float], repeats: int) -> Step:
    losses: list[float] = []
    # The first call also finds out how the model reads, and loads kernels, so it is not the one that is timed.
    peak = card.peak(lambda: losses.append(call()))
    return Step(card.seconds(call, repeats, warm_up=False), peak, losses[0])


def _our_step(card: Card, sizes: Sizes, quantization: str) -> tuple[Step, float]:
    """Ours, and which share of the card's arithmetic it uses."""
    base = make(sizes.large, torch.bfloat16, card.device, quantization=quantization)
    batch = rollouts_on(card, base, sizes)
    model = Lora(dropout=0.0).wrap(base)
    found = _timed(card, our_step(model, batch, BUDGET), sizes.repeats)
    return found, operations(model, batch) / found.seconds / card.rate


def _trl_step(card: Card, sizes: Sizes, quantization: str) -> tuple[int, Step | None]:
    """TRL's with the micro-batch that is fastest; None where even the smallest does not fit."""
    base = make(sizes.large, torch.bfloat16, card.device, quantization=quantization)
    trl = trl_dpo_step(base, rollouts_on(card, base, sizes), BETA)
    found: dict[int, Step] = {}
    for pairs in sizes.micro_batches:
        try:
            found[pairs] = _timed(card, partial(trl, pairs), sizes.repeats)
        except torch.OutOfMemoryError:
            card.free()
    if not found:
        return min(sizes.micro_batches), None
    best = min(found, key=lambda pairs: found[pairs].seconds)
    return best, found[best]


# -- an iteration ------------------------------------------------------------------------------------------------------


def iteration(
    card: Card, sizes: Sizes, quantization: str = "", budget: int = BUDGET, room: float = math.inf
) -> Finding:
    """One iteration of two steps by the command line, scored by two likelihoods; no weights touch the disk.

    Args:
        card: Where it runs.
        sizes: Of the models and the batch.
        quantization: Of the policy.
        budget: Tokens of a forward of the policy's.
        room: Bytes that it must fit.
    """
    # Testing before and after would move the weights to the host's memory and back, which is no part of an iteration.
    untested = mock.patch.object(LaserCLI, "_test_accuracy", return_value={})
    with tempfile.TemporaryDirectory() as scratch, made_not_loaded(card.device), untested:
        large, middle = (folder_of(shape, Path(scratch, name)) for name, shape in
                         (("large", sizes.large), ("middle", sizes.middle)))  # fmt: skip
        weights = {"name": str(large), "dtype": "bfloat16"}
        if quantization:
            weights["quantization"] = quantization
        judges = {name: likelihood(middle, dtype="bfloat16") for name in "ab"}
        path = configuration(Path(scratch), weights, judges, sizes, batches=2, budget=budget)
        seen = Seen(card, [f"--config={path}"])
    spent = seen.summary["seconds"]
    split = ", ".join(f"{name} {spent[name]:.1f} s" for name in ("rollouts", "scoring", "steps", "other"))
    text = f"{split}; first DPO loss {seen.first_dpo:.4f}; {seen.memory}"
    fits = seen.taken < room and seen.as_forecast
    return Finding(text, seen.starts_at_ln_2 and (fits or not card.is_cuda), seen.numbers)


rollouts_bf16, rollouts_nf4 = rollouts, partial(rollouts, quantization="nf4")
step_bf16, step_nf4 = step, partial(step, quantization="nf4")
iteration_bf16, iteration_nf4 = iteration, partial(iteration, quantization="nf4", budget=1024, room=24e9)
