"""What a card does while tokens are sampled and while a step is made: kernels, launches, and waiting for Python."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from card import Card, Finding
from shapes import make, prompts_on, rollouts_on
from sizes import Sizes
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from laser_pl.models.language_model import Lora

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from dpo_step import our_step
from rollouts import ours

TOKENS = 32
"""Tokens of each response that are sampled under the profiler."""
KERNELS = 10


def decoding(card: Card, sizes: Sizes) -> Finding:
    """Some tokens of every response, the prompts' reading included."""
    model = make(sizes.large, torch.bfloat16, card.device)
    tokens = min(TOKENS, sizes.new)
    call = ours(model, prompts_on(card, model, sizes), sizes.n, tokens)
    return looked_at(card, call, "token", tokens)


def step(card: Card, sizes: Sizes) -> Finding:
    """One DPO step, forward and backward."""
    model = make(sizes.large, torch.bfloat16, card.device)
    batch = rollouts_on(card, model, sizes)
    return looked_at(card, our_step(Lora(dropout=0.0).wrap(model), batch, 4096), "step", 1)


def looked_at(card: Card, call: Callable[[], object], unit: str, units: int) -> Finding:
    """What a profiler sees of a call.

    The card waits for Python in those moments of the call in which no kernel runs; how long it takes is measured
    without the profiler, which slows Python and not the card. On a CPU it is operators that are counted.
    """
    seconds = card.seconds(call)
    # Operators beside the kernels would take longer to sort than an 8B step to make.
    kind = ProfilerActivity.CUDA if card.is_cuda else ProfilerActivity.CPU
    with profile(activities=[kind], acc_events=True) as seen:
        call()
        card.wait()
    wanted = DeviceType.CUDA if card.is_cuda else DeviceType.CPU
    events = [event for event in seen.key_averages() if event.device_type == wanted]

    def busy(event: object) -> float:
        return 1e-6 * float(getattr(event, "self_device_time_total" if card.is_cuda else "self_cpu_time_total"))

    total, launches = sum(map(busy, events)), sum(event.count for event in events)
    by_name: Counter[str] = Counter()
    for event in events:
        by_name[_short(event.key)] += busy(event)
    top = ", ".join(f"{name} {share / total:.0%}" for name, share in by_name.most_common(KERNELS))
    waits = max(0.0, 1 - total / seconds)
    what = "kernels" if card.is_cuda else "operators"
    text = f"{launches / units:.0f} {what} a {unit}; waits for Python {waits:.0%} of {seconds:.2f} s; {top}"
    return Finding(text, None, {"launches": launches / units, "waits": waits, "seconds": seconds})


def _short(name: str) -> str:
    """A kernel's name without what its templates say, and in so few letters that ten fit.

    >>> _short("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float> >(int, float)")
    'vectorized_elementwise_kernel'
    """
    plain = name.removeprefix("void ").split("<")[0].split("(")[0].split("::")[-1]
    return (plain or name)[:48].replace("|", "/")
