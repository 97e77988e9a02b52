"""How large everything is that is asked about: shapes of models, and of the work with them."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from models import SHAPE

Shape = dict[str, Any]
LLAMA_1B: Shape = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
"""Llama-3.2-1B's."""
LLAMA_8B: Shape = {
    **LLAMA_1B,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "head_dim": 128,
    "tie_word_embeddings": False,
}
"""Llama-3-8B's."""
TINY: Shape = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        name: Of the form.
        small: The shape of what is about being right, 135M parameters.
        middle: The shape of a reward model beside the large policy, 1B.
        large: The shape of what is about being fast, 8B.
        prompts: Prompts of a batch.
        prompt: Tokens of each.
        n: Responses to each.
        new: Tokens of a response.
        pairs: Pairs of a prompt.
        micro_batches: Pairs at once that are tried for TRL.
        repeats: How often each call is timed.
        samples: Texts in the test of the distribution.
        brief: Whether the quickstart is cut down.
    """

    name: str
    small: Shape
    middle: Shape
    large: Shape
    prompts: int
    prompt: int
    n: int
    new: int
    pairs: int
    micro_batches: tuple[int, ...]
    repeats: int
    samples: int
    brief: bool

    @property
    def short(self) -> Sizes:
        """Fewer and shorter responses, where nothing is timed."""
        return replace(self, n=min(self.n, 8), new=min(self.new, 32), pairs=min(self.pairs, 4))

    def as_dict(self) -> dict[str, Any]:
        """Builtins only, to compare what two checks measured."""
        return asdict(self)


FULL = Sizes("full", SHAPE, LLAMA_1B, LLAMA_8B, 16, 128, 30, 128, 10, (4, 8), 1, 50_000, False)
SMALL = Sizes("small", TINY, TINY, TINY, 2, 12, 4, 6, 3, (1,), 1, 20_000, True)
