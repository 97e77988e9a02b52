"""Models and batches to measure on."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMOLLM2 = ROOT / "experiments" / "smollm2" / "SmolLM2-135M-Instruct"
TOKENIZER = ROOT / "experiments" / "quickstart" / "policy"
SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
"""SmolLM2-135M's."""


def load(name: str | None, dtype: str, shape: dict[str, Any] | None = None) -> Any:
    """A language model.

    Args:
        name: A folder or a hub name; None takes SmolLM2 if ``prepare.py`` has made its folder, or else random weights.
        dtype: ``float32`` or ``bfloat16``.
        shape: Of random weights, whatever ``name`` says.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from laser_pl.models.language_model import Weights
    from laser_pl.runtime.noise import quieten

    quieten()
    torch.manual_seed(0)
    if shape is None and (name is not None or SMOLLM2.is_dir()):
        return Weights(name or str(SMOLLM2), dtype=dtype).load()  # type: ignore[arg-type]
    return LlamaForCausalLM(LlamaConfig(**(shape or SHAPE))).to(getattr(torch, dtype)).eval()


def add_model(parser: argparse.ArgumentParser) -> None:
    """The option of a benchmark that says which model."""
    parser.add_argument("--model", help="a folder or hub name; SmolLM2 if prepared, or else random weights")


def add_dtypes(parser: argparse.ArgumentParser) -> None:
    """The option of a benchmark that says in which types."""
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])


def add_step(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark of DPO steps that say what one is made of, but for its prompts."""
    parser.add_argument("--n", type=int, default=30)
    parser.add_argument("--response", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--budget", type=int, default=4096, help="model.tokens_per_forward")


def described(name: str | None) -> str:
    """The model in words."""
    if name is not None:
        return Path(name).name
    return "SmolLM2-135M-Instruct" if SMOLLM2.is_dir() else "a random Llama of SmolLM2-135M's shape"


def tokenizer_of(model: Any) -> Any:
    """What sampling needs of a tokenizer; EOS is a token that is next to never sampled, so that work is equal."""
    vocabulary = {str(id_): id_ for id_ in range(model.config.vocab_size)}
    return SimpleNamespace(
        pad_token_id=0,
        eos_token_id=model.config.vocab_size - 1,
        get_vocab=lambda: vocabulary,
        decode=lambda ids, **kwargs: "",
    )


def prompt_batch(model: Any, prompts: int, length: int, seed: int = 0) -> Any:
    """Random prompts of one length."""
    import torch

    from laser_pl.batches import Prompt, PromptBatch

    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, model.config.vocab_size - 1, (prompts, length), generator=generator)
    return PromptBatch(tuple(Prompt(str(i), "", "") for i in range(prompts)), tokens, torch.ones_like(tokens))


def rollout_batch(model: Any, prompts: int, prompt: int, n: int, response: int, pairs: int, seed: int = 0) -> Any:
    """Random responses, paired at random; the reference is a random number."""
    import torch

    from laser_pl.batches import PairIndices, Responses, RolloutBatch

    generator = torch.Generator().manual_seed(seed + 1)
    answers = torch.randint(3, model.config.vocab_size - 1, (prompts, n, response), generator=generator)
    better, worse = torch.triu_indices(n, n, offset=1)
    chosen = [torch.randperm(len(better), generator=generator)[:pairs] for _ in range(prompts)]
    of = torch.cat([torch.full((len(own),), row) for row, own in enumerate(chosen)])
    order = torch.cat(chosen)
    ended = torch.ones(prompts, n, dtype=torch.bool)
    rollouts = RolloutBatch(
        prompt_batch(model, prompts, prompt, seed),
        Responses(answers, torch.ones_like(answers), ended, [[""] * n] * prompts),
        torch.zeros(prompts, 1),
        -response * 10 + torch.randn(prompts, n, generator=generator, dtype=torch.float64),
        iteration=0,
    )
    first, equal = torch.zeros(prompts, dtype=torch.long), torch.zeros(prompts, n)
    return rollouts.labelled(first, equal, PairIndices(of, better[order], worse[order]))
