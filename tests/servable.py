"""A tiny policy that vLLM can serve: its attention takes no heads of fewer than 32 numbers on a CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

QUICKSTART = Path(__file__).parents[1] / "experiments" / "quickstart" / "policy"


def make_servable(folder: Path, seed: int = 0) -> Path:
    """A random Llama with a head of 64 numbers, and the quickstart's tokenizer.

    Args:
        folder: Where to.
        seed: Other weights for another one.
    """
    tokenizer = AutoTokenizer.from_pretrained(QUICKSTART)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1,
        num_key_value_heads=1, head_dim=64, max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    make_servable(Path(sys.argv[1]))
