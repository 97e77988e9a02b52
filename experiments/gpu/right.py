"""Whether what is computed on the card is right: held against plainer forms of the same, and wider types."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from card import Card, Finding, gib
from shapes import folder_of, make, prompts_on, text_of
from sizes import Sizes
from torch import Tensor

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.generation.sampler import Sampling, sample
from laser_pl.language_model import Lora, Weights
from laser_pl.reading.reader import Reading, ResponseReader
from laser_pl.rewards.likelihood import Likelihood
from laser_pl.rewards.token_batches import log as log_of_batches

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from models import tokenizer_of
from rollouts import same_greedy

ROUNDING = 4.0
"""How much larger the rounding error of one form may be than that of another of the same type: both sum the same
numbers in another order, so they should be alike."""


# -- log-probabilities -------------------------------------------------------------------------------------------------


def logprobs(card: Card, sizes: Sizes) -> Finding:
    """Log-probabilities and gradients with a shared prompt and with one of its own, each against a wider type."""
    texts, holds, numbers = [], [], {}
    for dtype, wider in ((torch.float32, torch.float64), (torch.bfloat16, torch.float32)):
        base = make(sizes.small, dtype, card.device)
        reading = _reading(base, sizes.short)  # since attention in float64 takes its time
        true, _ = _read(base, reading, False, wider)
        errors = {}
        for share in (False, True):
            found, shares = _read(base, reading, share, dtype)
            if share and not shares:
                return Finding(f"{dtype}: prompts are not shared at all; the warning says why", False)
            errors[share] = [_distance(*pair) for pair in zip(found, true, strict=True)]
        name = str(dtype).removeprefix("torch.")
        texts.append(
            f"{name}: off by {errors[True][0]:.1e} (plain {errors[False][0]:.1e}),"
            f" gradients by {errors[True][1]:.1e} ({errors[False][1]:.1e})"
        )
        holds += [shared <= ROUNDING * plain for shared, plain in zip(errors[True], errors[False], strict=True)]
        numbers |= {f"{name}/logprobs": errors[True][0], f"{name}/gradients": errors[True][1]}
    return Finding(f"{'; '.join(texts)}, as shares of the largest", all(holds), numbers)


def _reading(model: Any, sizes: Sizes) -> Reading:
    """Prompts and responses of unequal lengths."""
    generator, device = torch.Generator().manual_seed(1), model.device
    heads = torch.tensor([sizes.prompt - row % 3 for row in range(sizes.prompts)])
    tails = torch.tensor([1 + (5 * row) % sizes.new for row in range(sizes.prompts * sizes.n)])
    tokens = torch.randint(3, model.config.vocab_size, (len(heads), sizes.prompt), generator=generator)
    mask = (torch.arange(sizes.prompt).flip(0) < heads[:, None]).long()
    prompts = PromptBatch(tuple(Prompt(str(row), "", "") for row in range(len(heads))), tokens, mask).to(device)
    responses = torch.randint(3, model.config.vocab_size, (len(tails), sizes.new), generator=generator)
    own = (torch.arange(sizes.new) < tails[:, None]).long()
    of = torch.arange(len(heads)).repeat_interleave(sizes.n)
    return Reading(prompts, of.to(device), responses.to(device), own.to(device))


def _read(base: Any, reading: Reading, share: bool, dtype: torch.dtype) -> tuple[tuple[Tensor, Tensor], bool]:
    """Log-probabilities, and the gradient of their sum, with the weights in another type; and whether they shared."""
    model = Lora(dropout=0.0).wrap(copy.deepcopy(base).to(dtype))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:  # one half of a fresh adapter is zero, and so would be the other's gradient
            parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    reader = ResponseReader(model.eval(), budget=4096, share=share)
    total = []
    for group in reader.groups(reading):
        rows = [row for part in group for row in part]
        found = reader.group_logprobs(reading, group, recompute=False)
        (found.sum() / len(reading.prompt)).backward()
        total += list(zip(rows, found.detach().double().unbind(), strict=True))
    logprobs = torch.stack([value for _, value in sorted(total, key=lambda pair: pair[0])])
    gradients = [p.grad.double().flatten() for p in model.parameters() if p.requires_grad and p.grad is not None]
    return (logprobs, torch.cat(gradients)), reader.shares


def _distance(found: Tensor, true: Tensor) -> float:
    return float((found - true).abs().max() / true.abs().max())


# -- sampling ----------------------------------------------------------------------------------------------------------


def greedy(card: Card, sizes: Sizes) -> Finding:
    """Token ids at temperature 0, in float32, where ties are next to impossible."""
    model = make(sizes.small, torch.float32, card.device)
    same = same_greedy(model, prompts_on(card, model, sizes), sizes.short.new)
    return Finding(
        f"{sizes.prompts} texts of {sizes.short.new} tokens: {'the same ids' if same else 'other ids'}", same
    )


def distribution(card: Card, sizes: Sizes) -> Finding:
    """The first two tokens of many samples of a model with few tokens, against its probabilities."""
    from scipy.stats import chisquare

    shape = {**sizes.small, "vocab_size": 12, "initializer_range": 0.2}
    model = make(shape, torch.float32, card.device)
    prompt = PromptBatch((Prompt("0", "", ""),), torch.tensor([[3, 4, 5]]), torch.ones(1, 3, dtype=torch.long))
    prompt = prompt.to(card.device)
    how = Sampling(n=sizes.samples, temperature=0.8, max_new_tokens=2, tokens_at_once=10**9)
    found, _ = sample(model, tokenizer_of(model), prompt, how, seed=0)
    vocabulary, pad, eos = 12, 0, {1, 11}
    expected = torch.zeros(vocabulary, vocabulary, dtype=torch.float64)
    for first in range(vocabulary):
        text = torch.cat([prompt.tokens, torch.tensor([[first]], device=card.device)], dim=1)
        with torch.no_grad():
            logits = model(input_ids=text).logits[0, -2:].double().cpu()
        logits[:, pad] = -torch.inf  # which is never sampled
        one, two = (logits / how.temperature).softmax(-1)
        expected[first] = one[first] * two if first not in eos else torch.zeros(vocabulary)
        if first in eos:
            expected[first, pad] = one[first]
    pairs = found.tokens[0].cpu()
    seen = torch.bincount(pairs[:, 0] * vocabulary + pairs[:, 1], minlength=vocabulary**2).double()
    count = expected.flatten() * sizes.samples
    possible = count >= 5  # where the test's approximation holds; the rest is one cell
    rest = [float(x[~possible].sum()) for x in (seen, count)]
    cells = [torch.cat([x[possible], torch.tensor([r])]) for x, r in zip((seen, count), rest, strict=True)]
    result = chisquare(cells[0].numpy(), (cells[1] * cells[0].sum() / cells[1].sum()).numpy())
    text = f"{sizes.samples} samples in {int(possible.sum())} cells: chi-squared {result.statistic:.0f}"
    return Finding(f"{text}, p {result.pvalue:.3f}", bool(result.pvalue > 1e-4), {"p": float(result.pvalue)})


# -- memory ------------------------------------------------------------------------------------------------------------


def out_of_memory(card: Card, sizes: Sizes) -> Finding:
    """A reward model asked with more at once than there is room for, against one that takes a few at a time.

    On a card the room is what its allocator may take; on a CPU the forward says that there is none.
    """
    warnings: list[str] = []
    with TemporaryDirectory() as scratch:
        folder = folder_of(sizes.small, Path(scratch), weights=True, dtype=torch.float32)
        prompts = [Prompt(str(row), text_of(row, sizes.prompt), "") for row in range(sizes.prompts)]
        responses = [[text_of(row + r, 4 + r % 3) for r in range(sizes.n)] for row in range(sizes.prompts)]
        model = Likelihood(Weights(str(folder)), max_tokens_per_batch=256)
        model.load(card.device)
        expected = model.score(prompts, responses)
        model.batches.max_tokens = everything = 10**6
        peak = card.peak(lambda: model.score(prompts, responses))
        card.free()
        at_rest = torch.cuda.memory_allocated(card.device) if card.is_cuda else 0
        room = at_rest + (peak - at_rest) * 2 // 3
        model.batches.max_tokens = everything
        noting = mock.patch.object(log_of_batches, "warning", lambda text, *args: warnings.append(text % args))
        with noting, _room(card, model, room):
            found = model.score(prompts, responses)
    apart = float((found - expected).abs().max() / expected.abs().max())
    text = f"needs {gib(peak)}, has {gib(room)}: {len(warnings)} times halved, then as before (off by {apart:.0e})"
    return Finding(text, bool(warnings) and apart < 1e-4, {"halved": len(warnings), "apart": apart})


@contextmanager
def _room(card: Card, model: Any, size: int) -> Iterator[None]:
    """A block in which memory is short."""
    if card.is_cuda:
        torch.cuda.set_per_process_memory_fraction(size / card.memory, torch.cuda.current_device())
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, torch.cuda.current_device())
        return
    forward = model.logprobs

    def refusing(used: Any, parts: Any) -> Any:
        if len(parts) > 2:
            raise torch.OutOfMemoryError("as if there were no room")
        return forward(used, parts)

    with mock.patch.object(model, "logprobs", refusing):
        yield
