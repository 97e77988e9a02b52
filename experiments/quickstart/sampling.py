"""Answers of the policy, sampled or greedy; nothing of ``laser_pl`` is used, so that the card does not depend on it."""

from __future__ import annotations

import torch
from policy_training import TEMPERATURE
from tasks import TASKS, Tasks
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHUNK = 2048  # rows per forward: keeps memory below 100 MB


@torch.no_grad()
def answer_prompts(
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    generator: torch.Generator | None,
    tasks: Tasks = TASKS,
) -> list[str]:
    """Answer every prompt once, never with ``<pad>``.

    Args:
        policy: The policy, in evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Prompts of equal length.
        generator: Source of randomness for sampling at ``TEMPERATURE``; ``None`` means the most likely token each time.
        tasks: The world's tasks.

    Returns:
        One answer per prompt without its end token, cut after ``max_answer_length + 1`` tokens.
    """
    most = tasks.max_answer_length + 1
    answers: list[str] = []
    for start in range(0, len(prompts), CHUNK):
        ids = torch.tensor(tokenizer(prompts[start : start + CHUNK])["input_ids"])  # (B, T)
        cache, inputs = None, ids
        ended = torch.zeros(len(ids), dtype=torch.bool)
        for _ in range(most):
            output = policy(input_ids=inputs, past_key_values=cache, use_cache=True)
            cache, logits = output.past_key_values, output.logits[:, -1].float()  # (B, V)
            logits[:, tokenizer.pad_token_id] = -torch.inf
            if generator is None:
                token = logits.argmax(-1)
            else:
                token = torch.multinomial((logits / TEMPERATURE).softmax(-1), 1, generator=generator).squeeze(1)
            token = token.masked_fill(ended, tokenizer.pad_token_id)
            ended |= token == tokenizer.eos_token_id
            inputs = token[:, None]
            ids = torch.cat([ids, inputs], dim=1)
        answers += tokenizer.batch_decode(ids[:, -most:], skip_special_tokens=True)
    return answers
