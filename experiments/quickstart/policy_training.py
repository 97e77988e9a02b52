"""The policy: a small Llama that knows the tasks and has learned to slip and to misunderstand.

It is supervised twice: first on right answers only, which teaches the tasks quickly, then on a mixture of right,
misunderstood and slipped answers. So its most likely answer is usually right while its samples are often wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

import torch
from character_tokenizer import EOS, pad_right
from mistakes import slip
from tasks import MAX_ANSWER_LENGTH, PROMPT_LENGTH, TASKS, Question, Tasks
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPERATURE = 0.8
HIDDEN, LAYERS, HEADS, FEED_FORWARD = 64, 3, 4, 128
BATCH, LEARNING_RATE = 160, 4e-3
CLEAN_SHARE = 0.53  # of the steps; the rest is on the mixture
# Probability that a supervised answer is misunderstood, and that what is meant is then written with a slip.
MISUNDERSTOOD = {"addition": 0.37, "sorting": 0.40, "reversing": 0.37, "comparing": 0.36}
SLIPPED = {"addition": 0.28, "sorting": 0.37, "reversing": 0.25, "comparing": 0.25}


def llama_shape(tokenizer: PreTrainedTokenizerFast) -> dict[str, object]:
    """Return the configuration that the policy and the reward models share."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


def supervised_answer(
    question: Question, rng: Random, misunderstood: float, slipped: float, tasks: Tasks = TASKS
) -> str:
    """Draw what the policy is taught to answer in the second part of its training.

    Args:
        question: The question.
        rng: Source of randomness; it is advanced.
        misunderstood: Probability that the question is misunderstood.
        slipped: Probability that what is meant is written with a slip.
        tasks: The world's tasks.

    Returns:
        The right answer, its misunderstanding, or either of them with one slip.
    """
    meant = question.misunderstood if rng.random() < misunderstood else question.answer
    return slip(meant, question.category, rng, tasks) if rng.random() < slipped else meant


def fresh_questions(rng: Random, shipped: set[str], tasks: Tasks = TASKS) -> Iterator[Question]:
    """Draw questions for ever, categories in turn, never one whose prompt is shipped.

    Args:
        rng: Source of randomness; it is advanced.
        shipped: Prompts of the three splits.
        tasks: The world's tasks.

    Yields:
        One question at a time.
    """
    while True:
        for category in tasks.kinds:
            question = tasks.draw(category, rng)
            while question.prompt in shipped:
                question = tasks.draw(category, rng)
            yield question


def learning_rate_factor(step: int, steps: int) -> float:
    """Scale the learning rate: up over the first 5 %, then down along a cosine to 2 %."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def answer_loss(model: LlamaForCausalLM, ids: Tensor, prompt_length: int = PROMPT_LENGTH) -> Tensor:
    """Return the mean negative log-likelihood per answer token, the end token included, in nats.

    Args:
        model: The policy.
        ids: Prompt, answer, ``<eos>`` and right padding. Shape ``(B, T)``.
        prompt_length: Tokens of every prompt.

    Returns:
        Scalar.
    """
    logits = model(input_ids=ids, use_cache=False).logits[:, prompt_length - 1 : -1]  # (B, T - prompt_length, V)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, prompt_length:].flatten(), ignore_index=model.config.pad_token_id
    )


def train_on_answers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    draw: Callable[[int], list[tuple[str, str]]],
    steps: int,
    learning_rate: float,
    *,
    prompt_length: int = PROMPT_LENGTH,
    progress: str = "",
) -> None:
    """Train a model to answer, its weights in place.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        draw: From the step's number to prompts with the answers to be learned.
        steps: Optimisation steps.
        learning_rate: The highest on the way.
        prompt_length: Tokens of every prompt.
        progress: What to call the model when the loss is printed now and then; nothing is printed without.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    model.train()
    for step in range(steps):
        ids = pad_right(tokenizer, [prompt + answer + EOS for prompt, answer in draw(step)])
        loss = answer_loss(model, ids, prompt_length)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate * learning_rate_factor(step, steps)
        optimizer.step()
        if progress and (step + 1) % 200 == 0:
            print(f"{progress} step {step + 1}/{steps}: loss {loss.item():.3f} nats per token", flush=True)
    model.eval()


def train_speaker(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    shipped: set[str],
    rng: Random,
    steps: int,
    clean_share: float,
    misunderstood: dict[str, float],
    slipped: dict[str, float],
    tasks: Tasks = TASKS,
    *,
    progress: str = "",
) -> None:
    """Train a model on right answers first, then on the mixture.

    Args:
        model: The model, trained in place.
        tokenizer: Its tokenizer.
        shipped: Prompts that it must never see.
        rng: Source of the questions and answers.
        steps: Optimisation steps in all.
        clean_share: How much of them is on right answers only.
        misunderstood: Category to the probability of a misunderstanding in the mixture.
        slipped: Category to the probability of a slip in the mixture.
        tasks: The world's tasks.
        progress: What to call it when the loss is printed; nothing is printed without.
    """
    questions = fresh_questions(rng, shipped, tasks)
    clean_steps = round(clean_share * steps)

    def draw(step: int) -> list[tuple[str, str]]:
        drawn = [next(questions) for _ in range(BATCH)]
        if step < clean_steps:
            return [(q.prompt, q.answer) for q in drawn]
        return [
            (q.prompt, supervised_answer(q, rng, misunderstood[q.category], slipped[q.category], tasks)) for q in drawn
        ]

    train_on_answers(model, tokenizer, draw, steps, LEARNING_RATE, prompt_length=tasks.prompt_length, progress=progress)


def sample_by_default(policy: LlamaForCausalLM, max_new_tokens: int) -> None:
    """Have the policy's generation settings forbid ``<pad>`` and sample at ``TEMPERATURE``."""
    policy.generation_config.update(
        do_sample=True,
        temperature=TEMPERATURE,
        max_new_tokens=max_new_tokens,
        suppress_tokens=[policy.config.pad_token_id],
    )


def train_policy(
    tokenizer: PreTrainedTokenizerFast, shipped: set[str], seed: int, steps: int, *, verbose: bool = True
) -> LlamaForCausalLM:
    """Train the policy.

    Args:
        tokenizer: The world's tokenizer.
        shipped: Prompts that it must never see.
        seed: The world's seed; fixes the initial weights and the data.
        steps: Optimisation steps in all.
        verbose: Whether to print the loss now and then.

    Returns:
        The policy in evaluation mode. Its generation settings forbid ``<pad>`` and sample at ``TEMPERATURE``.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**llama_shape(tokenizer), attn_implementation="sdpa"))
    rng, progress = Random(f"policy-{seed}"), "policy" if verbose else ""
    train_speaker(model, tokenizer, shipped, rng, steps, CLEAN_SHARE, MISUNDERSTOOD, SLIPPED, progress=progress)
    sample_by_default(model, MAX_ANSWER_LENGTH + 1)
    return model
