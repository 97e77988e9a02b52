"""How far a model can count."""

from __future__ import annotations

from typing import Any

import torch

_NAMES = {"position_embeddings", "wpe", "embed_positions"}
"""What transformers' models call a table of places (BERT's kind, GPT-2's, OPT's and BART's)."""


def most_positions(model: Any) -> int | None:
    """Tokens of the longest text that a model has places for; None where it has no table of them.

    A longer one is no forward but an error. RoBERTa and OPT leave the first rows of theirs to padding.
    """
    places = []
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in _NAMES and isinstance(module, torch.nn.Embedding):
            unused = getattr(module, "offset", 0) or (0 if module.padding_idx is None else module.padding_idx + 1)
            places.append(module.num_embeddings - unused)
    return min(places, default=None)
