"""How the second world's reward models score; nothing of ``laser_pl`` is in it, so that the card is independent."""

from __future__ import annotations

import torch
from character_tokenizer import EOS, pad_right
from puzzles import PUZZLES
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHUNK = 2048  # texts per forward


@torch.no_grad()
def mean_likelihoods(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[float]:
    """Return the mean log-probability of each response's tokens, its end token included, in nats.

    Args:
        model: A language model.
        tokenizer: Its tokenizer.
        texts: Prompt and response, without the end token, which is added here.

    Returns:
        One score per text.
    """
    scores: list[float] = []
    for start in range(0, len(texts), CHUNK):
        ids = pad_right(tokenizer, [text + EOS for text in texts[start : start + CHUNK]])  # (B, T)
        logits = model(input_ids=ids, use_cache=False).logits[:, PUZZLES.prompt_length - 1 : -1]  # (B, R, V)
        tokens = ids[:, PUZZLES.prompt_length :]  # (B, R)
        each = logits.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)  # (B, R)
        counted = tokens != tokenizer.pad_token_id
        scores += ((each * counted).sum(1) / counted.sum(1)).tolist()
    return scores
