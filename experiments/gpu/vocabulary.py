"""Log-probabilities of tokens over a large vocabulary on the card, see ``experiments/benchmarks/head.py``."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import torch
from card import Card, Finding, gib
from sizes import Sizes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from head import Case, compared

MOST = 1.3
"""Times the bare products that ours may take on a card."""

TOLERANCE = 2e-2
"""Of the largest number, between two ways in bfloat16."""


def head(card: Card, sizes: Sizes) -> Finding:
    """Ours, and every other way that is installed, as multiples of the bare products, in turn."""
    shape, tokens = sizes.large, 2 * sizes.prompts * sizes.new
    case = Case.of(tokens, shape["hidden_size"], shape["vocab_size"], torch.bfloat16, card.device)
    ways, refused, off = compared(case)
    calls = {"products": case.products, **ways}
    rounds = [{name: card.seconds(call, warm_up=False) for name, call in calls.items()} for _ in range(5)]
    took = {name: statistics.median(one[name] for one in rounds) for name in calls}
    bare = took["products"]
    told = [f"{name} {took[name] / bare:.2f}x, {gib(card.peak(way))}" for name, way in ways.items()]
    text = (
        f"{tokens} tokens, {shape['hidden_size']} to {shape['vocab_size']}: products {1e3 * bare:.1f} ms;"
        f" {'; '.join([*told, *refused])}; off by {off:.0e} at most"
    )
    fast = took["ours"] <= MOST * bare or not card.is_cuda
    return Finding(text, off < TOLERANCE and fast, {**took, "apart": off})
