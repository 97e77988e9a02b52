"""The five reward models: sequence classifiers grown from the policy's trunk and trained on pairs (Bradley-Terry)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import torch
from character_tokenizer import EOS, pad_right
from mistakes import edit_distance, garbage, slip
from opinions import OPINIONS, Opinion
from policy_training import fresh_questions, learning_rate_factor, llama_shape
from sampling import answer_prompts
from tasks import PROMPT_LENGTH, Question
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

SAMPLES, GARBAGE = 4, 2  # candidates per prompt, beside the right, the misunderstood and a slipped answer
PROMPTS_PER_STEP, LEARNING_RATE = 32, 2e-3


@dataclass(frozen=True)
class Candidates:
    """Answers to be compared, shared by all reward models.

    Attributes:
        questions: ``N`` questions.
        responses: ``C`` responses to each of them.
        distances: Edit distances of each response to the right and to the misunderstood answer.
        ids: Prompt, response, ``<eos>`` and right padding. Shape ``(N, C, T)``.
    """

    questions: list[Question]
    responses: list[list[str]]
    distances: list[list[tuple[int, int]]]
    ids: Tensor


def collect_candidates(
    policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, shipped: set[str], seed: int, count: int
) -> Candidates:
    """Collect what the reward models are trained on: samples of the policy, both readings, a slip, and garbage.

    Args:
        policy: The trained policy.
        tokenizer: Its tokenizer.
        shipped: Prompts that must not be used.
        seed: The world's seed.
        count: Number of questions ``N``.

    Returns:
        The candidates, ``C = 3 + SAMPLES + GARBAGE`` per question.
    """
    rng = Random(f"rewards-{seed}")
    source = fresh_questions(rng, shipped)
    questions = [next(source) for _ in range(count)]
    generator = torch.Generator().manual_seed(seed)
    sampled = answer_prompts(policy, tokenizer, [q.prompt for q in questions for _ in range(SAMPLES)], generator)
    responses = []
    for index, q in enumerate(questions):
        meant = rng.choice((q.answer, q.misunderstood))
        made = [q.answer, q.misunderstood, slip(meant, q.category, rng)]
        made += sampled[index * SAMPLES : (index + 1) * SAMPLES]
        responses.append(made + [garbage(q, rng) for _ in range(GARBAGE)])
    distances = [
        [(edit_distance(r, q.answer), edit_distance(r, q.misunderstood)) for r in row]
        for q, row in zip(questions, responses, strict=True)
    ]
    texts = [q.prompt + r + EOS for q, row in zip(questions, responses, strict=True) for r in row]
    ids = pad_right(tokenizer, texts).unflatten(0, (count, -1))  # (N, C, T)
    return Candidates(questions, responses, distances, ids)


def utilities(opinion: Opinion, candidates: Candidates) -> Tensor:
    """Value every candidate in the eyes of an opinion.

    Returns:
        Shape ``(N, C)``.
    """
    return torch.tensor(
        [
            [opinion.utility(q, r, *d) for r, d in zip(responses, distances, strict=True)]
            for q, responses, distances in zip(
                candidates.questions, candidates.responses, candidates.distances, strict=True
            )
        ]
    )


def bradley_terry_loss(scores: Tensor, utility: Tensor) -> Tensor:
    """Return the mean of -log sigmoid(score difference) over all pairs of one prompt that differ in utility, in nats.

    Args:
        scores: Shape ``(B, C)``.
        utility: Which of two is preferred: the higher; equal ones make no pair. Shape ``(B, C)``.

    Returns:
        Scalar.
    """
    preferred = utility[:, :, None] > utility[:, None, :]  # (B, C, C)
    difference = scores[:, :, None] - scores[:, None, :]  # (B, C, C)
    return -torch.nn.functional.logsigmoid(difference[preferred]).mean()


def preferred_answer_loss(reward_model: LlamaForSequenceClassification, hidden: Tensor, ids: Tensor) -> Tensor:
    """Return the mean negative log-likelihood per token of the answers a reward model should like best, in nats.

    The trunk came from a model that predicts answers. Keeping it able to do so, but now for the preferred answer alone,
    is what lets a model this small tell a right sum from a nearly right one on prompts it has not seen.

    Args:
        reward_model: The reward model; its input embedding doubles as the output layer, as in the policy.
        hidden: Last hidden states of the preferred texts. Shape ``(B, T, d)``.
        ids: Their tokens. Shape ``(B, T)``.

    Returns:
        Scalar.
    """
    logits = hidden[:, PROMPT_LENGTH - 1 : -1] @ reward_model.model.embed_tokens.weight.T  # (B, T - 8, V)
    targets = ids[:, PROMPT_LENGTH:]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=reward_model.config.pad_token_id
    )


def grow_from_policy(
    policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int
) -> LlamaForSequenceClassification:
    """Make a reward model with the policy's trunk and a new head.

    Args:
        policy: The trained policy.
        tokenizer: Its tokenizer; its pad token says where a text ends.
        seed: Fixes the head.

    Returns:
        The reward model, one score per text.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(**llama_shape(tokenizer), num_labels=1, attn_implementation="sdpa")
    reward_model = LlamaForSequenceClassification(config)
    reward_model.model.load_state_dict(policy.model.state_dict())
    return reward_model


def train_reward_model(
    name: str,
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    candidates: Candidates,
    seed: int,
    steps: int,
    *,
    verbose: bool = True,
) -> LlamaForSequenceClassification:
    """Train one reward model on its opinion.

    Args:
        name: Key of ``OPINIONS``.
        policy: The trained policy.
        tokenizer: Its tokenizer.
        candidates: What to compare.
        seed: The world's seed.
        steps: Optimisation steps.
        verbose: Whether to print the last loss.

    Returns:
        The reward model in evaluation mode.
    """
    reward_model = grow_from_policy(policy, tokenizer, seed).train()
    utility = utilities(OPINIONS[name], candidates)
    weight = torch.tensor([float(OPINIONS[name].home.get(q.category, 1)) for q in candidates.questions])
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(reward_model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    loss = torch.tensor(torch.nan)
    for step in range(steps):
        rows = torch.multinomial(weight, PROMPTS_PER_STEP, generator=order)
        ids = candidates.ids[rows]  # (B, C, T)
        hidden = reward_model.model(input_ids=ids.flatten(0, 1), use_cache=False).last_hidden_state  # (B C, T, d)
        last = (ids.flatten(0, 1) != tokenizer.pad_token_id).sum(1) - 1  # (B C,)
        scores = reward_model.score(hidden[torch.arange(len(last)), last]).view(ids.shape[:2])  # (B, C)
        loss = bradley_terry_loss(scores, utility[rows])
        if not OPINIONS[name].likes_length:  # there is no answer that length alone prefers
            best, each = utility[rows].argmax(1), torch.arange(len(rows))  # (B,)
            states = hidden.unflatten(0, ids.shape[:2])[each, best]  # (B, T, d)
            loss = loss + preferred_answer_loss(reward_model, states, ids[each, best])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reward_model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * learning_rate_factor(step, steps)
        optimizer.step()
    if verbose:
        print(f"reward model {name}: loss {loss.item():.3f} nats after {steps} steps", flush=True)
    return reward_model.eval()


def score_ids(reward_model: LlamaForSequenceClassification, ids: Tensor) -> Tensor:
    """Score right-padded texts.

    Args:
        reward_model: The reward model.
        ids: Shape ``(B, T)``.

    Returns:
        Shape ``(B,)``.
    """
    mask = (ids != reward_model.config.pad_token_id).long()
    return reward_model(input_ids=ids, attention_mask=mask, use_cache=False).logits.squeeze(-1)
