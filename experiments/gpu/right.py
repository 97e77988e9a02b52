"""Whether what is computed on the card is right: held against plainer forms of the same, and wider types."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from card import Card, Finding, gib
from shapes import folder_of, make, prompts_on, text_of
from sizes import Sizes
from torch import Tensor

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.generation.replayed import refused
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.way import FASTEST, REPLAYED, Dictation, Way, bare_generation_config
from laser_pl.generation.ways import Choice
from laser_pl.logprobs.kernel_trial import TOLERANCE, BothForms
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.logprobs.modes import evaluating
from laser_pl.logprobs.packing import Packing, pack
from laser_pl.logprobs.ragged import kernel_on
from laser_pl.logprobs.trial_texts import START
from laser_pl.models.language_model import Lora, Weights
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
        responses = _reading(base, sizes.short)  # since attention in float64 takes its time
        true, _ = _read(base, responses, False, wider)
        errors = {}
        for share in (False, True):
            found, shares = _read(base, responses, share, dtype)
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


def _reading(model: Any, sizes: Sizes) -> ResponseBatch:
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
    return ResponseBatch(prompts, of.to(device), responses.to(device), own.to(device))


def _read(base: Any, responses: ResponseBatch, share: bool, dtype: torch.dtype) -> tuple[tuple[Tensor, Tensor], bool]:
    """Log-probabilities, and the gradient of their sum, with the weights in another type; and whether they shared."""
    model = Lora(dropout=0.0).wrap(copy.deepcopy(base).to(dtype))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:  # one half of a fresh adapter is zero, and so would be the other's gradient
            parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    logprob_model = LogprobModel(model.eval(), budget=4096, share=share)
    total = []
    for group in logprob_model.groups(responses):
        rows = [row for part in group for row in part]
        found = logprob_model.group_logprobs(responses, group, recompute=False)
        (found.sum() / len(responses.prompt)).backward()
        total += list(zip(rows, found.detach().double().unbind(), strict=True))
    logprobs = torch.stack([value for _, value in sorted(total, key=lambda pair: pair[0])])
    gradients = [p.grad.double().flatten() for p in model.parameters() if p.requires_grad and p.grad is not None]
    return (logprobs, torch.cat(gradients)), logprob_model.shares


def _distance(found: Tensor, true: Tensor) -> float:
    return float((found - true).abs().max() / true.abs().max())


# -- attention ---------------------------------------------------------------------------------------------------------


def attention(card: Card, sizes: Sizes) -> Finding:
    """Attention over shared prompts by the card's kernel: against masks, and its memory as texts grow longer."""
    if not kernel_on(card.device):
        return Finding("Here it is computed with masks.")
    apart = 0.0
    # Not with a window of 1: queries and keys have no gradient there but rounding.
    for dtype, start, window in product((torch.bfloat16, torch.float16), (0, START), (None, 2, 3, 40)):
        both = BothForms(_packing(sizes.short, card.device, start))
        both(None, *_states(both.packing, dtype), dropout=0.0, scaling=None, sliding_window=window)
        apart = max(apart, both.apart)
    grows = []
    for kernel in (True, False):
        peaks = []
        for new in (2 * sizes.prompt, 4 * sizes.prompt):
            form = BothForms(_packing(replace(sizes.short, new=new, prompt=new), card.device, 0))
            states = _states(form.packing, torch.bfloat16)
            before = card.peak(lambda: None)
            peaks.append(card.peak(partial(form.with_gradients, kernel, *states, None, None)) - before)
        grows.append(peaks[1] / peaks[0])
    text = (
        f"off by {apart:.1e} at most, gradients and windows included; texts twice as long take {grows[0]:.1f}x the"
        f" memory (with masks {grows[1]:.1f}x)"
    )
    return Finding(text, apart <= TOLERANCE and grows[0] < 2.5, {"apart": apart, "grows": grows[0]})


def _packing(sizes: Sizes, device: torch.device, start: int) -> Packing:
    """Of random texts that begin alike."""
    responses = _reading(SimpleNamespace(device=device, config=SimpleNamespace(vocab_size=100)), sizes)
    return pack(
        responses.prompts.tokens, responses.prompts.mask, responses.prompt, responses.tokens, responses.mask, start
    )


def _states(packing: Packing, dtype: torch.dtype) -> list[Tensor]:
    """Random queries, keys and values of heads that share keys."""
    shapes = [(1, len(packing.tokens), heads, 64) for heads in (8, 2, 2)]
    return [torch.randn(shape, dtype=dtype, device=packing.tokens.device).transpose(1, 2) for shape in shapes]


# -- sampling ----------------------------------------------------------------------------------------------------------


def greedy(card: Card, sizes: Sizes) -> Finding:
    """Token ids at temperature 0 in float32, where ties are next to impossible; and logits of given tokens in bfloat16.

    These as they are written for CPUs and as for cards, each against float32 from the same weights.
    """
    model = make(sizes.small, torch.float32, card.device)
    prompts, length = prompts_on(card, model, sizes), sizes.short.new
    same = same_greedy(model, prompts, length)
    narrow = model.bfloat16()
    tokens = torch.randint(3, model.config.vocab_size, (2 * len(prompts), length), device=card.device)
    growing, replay = (_dictated(narrow, way, prompts, tokens) for way in (FASTEST, REPLAYED))
    true = _dictated(narrow.float(), FASTEST, prompts, tokens)
    errors = [_distance(found, true) for found in (replay, growing)]
    captured = card.is_cuda and model not in refused
    text = (
        f"{sizes.prompts} texts of {length} tokens: {'the same ids' if same else 'other ids'};"
        f" {'replayed' if captured else 'not replayed'}, logits in bfloat16 off by {errors[0]:.1e} (growing cache"
        f" {errors[1]:.1e})"
    )
    holds = same and errors[0] <= ROUNDING * errors[1] and captured == card.is_cuda
    return Finding(text, holds, {"replayed": errors[0], "growing": errors[1]})


def uncaptured(card: Card, sizes: Sizes) -> Finding:
    """Samples of a model whose forward looks at a number, which no graph can; and of another model after it."""
    models = [make(sizes.small, torch.float32, card.device) for _ in range(2)]
    prompts, how = prompts_on(card, models[0], sizes), Sampling(n=2, max_new_tokens=sizes.short.new)

    def tokens(model: Any) -> Tensor:
        return sample_responses(model, tokenizer_of(model), prompts, how, seed=0).tokens

    expected = tokens(models[0])
    models[0].lm_head.register_forward_hook(lambda layer, given, logits: logits * float(logits.isfinite().all()))
    same = all(torch.equal(tokens(model), expected) for model in models)
    found = [model in refused for model in models]
    text = f"{'the same' if same else 'other'} samples without a capture; {sum(found)} of 2 models refused"
    return Finding(text, same and found == [card.is_cuda, False])


def _dictated(model: Any, way: Way, prompts: PromptBatch, tokens: Tensor) -> Tensor:
    """Logits of given tokens, two responses to each prompt, as a way of writing has them. Shape ``(T, R, V)``."""
    dictation = Dictation(tokens, prompts.tokens.shape[1])
    choice = Choice(2, tokens.shape[1], [dictation], never=[], eos=[], pad=0)
    with evaluating(model), bare_generation_config(model):
        way.call(model, prompts, choice)
    return torch.stack(dictation.scores)


def distribution(card: Card, sizes: Sizes) -> Finding:
    """The first two tokens of many samples of a model with few tokens, against its probabilities."""
    from scipy.stats import chisquare

    shape = {**sizes.small, "vocab_size": 12, "initializer_range": 0.2}
    model = make(shape, torch.float32, card.device)
    prompt = PromptBatch((Prompt("0", "", ""),), torch.tensor([[3, 4, 5]]), torch.ones(1, 3, dtype=torch.long))
    prompt = prompt.to(card.device)
    how = Sampling(n=sizes.samples, temperature=0.8, max_new_tokens=2, tokens_at_once=10**9)
    found = sample_responses(model, tokenizer_of(model), prompt, how, seed=0)
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
