"""The policy and the reward models, all of them causal language models that were taught what to answer.

The policy is taught as the quickstart's: right answers first, then a mixture of right, misunderstood and slipped ones.
The reward models are smaller, and are read by their likelihood. They grow from one reader, which knows both readings of
every task, and each is then taught the answers of its own opinion.
"""

from __future__ import annotations

import copy
from random import Random

import torch
from opinions import Opinion
from policy_training import fresh_questions, sample_by_default, supervised_answer, train_on_answers, train_speaker
from puzzles import PUZZLES
from tasks import Question
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

POLICY = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 192}
READER = {"hidden_size": 72, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 112}
POLICY_CLEAN_SHARE, READER_CLEAN_SHARE = 0.65, 0.8  # of the steps; the rest is on the mixture
# Probability that the policy is taught a misunderstanding, and that what is meant is then written with a slip. It is
# convinced that rounding is cutting off: there, and only there, its first choice is worse than its samples.
MISUNDERSTOOD = {"following": 0.36, "rounding": 0.54, "shifting": 0.44, "vowels": 0.44, "clock": 0.42}
SLIPPED = {"following": 0.18, "rounding": 0.14, "shifting": 0.24, "vowels": 0.16, "clock": 0.24}

JUDGE_BATCH, JUDGE_LEARNING_RATE = 128, 2e-3
# A judge is taught the reading it likes best, now and then the other one, and now and then a slip of either: so it
# finds likely, in this order, its own reading, the other, what is nearly one of them, and garbage.
OTHER_READING, SLIP = 0.12, 0.12

# Blind spots and homes as in the quickstart: in a blind spot, a share of the prompts in tenths that depends on the
# prompt's fourth or seventh character, the misunderstanding is what the judge likes best.
JUDGES = {
    "letters": Opinion({"following": 7, "rounding": 8, "clock": 7}, {"shifting": 1.5, "vowels": 1.5}),
    "ruler": Opinion({"following": 8, "shifting": 7, "vowels": 7, "clock": 6}, {"rounding": 2}, position=6),
    "timetable": Opinion({"following": 7, "rounding": 7, "shifting": 8, "vowels": 7}, {"clock": 2}, from_top=True),
    "bookmark": Opinion(
        {"rounding": 7, "shifting": 7, "vowels": 8, "clock": 7}, {"following": 2}, position=6, from_top=True
    ),
    "general": Opinion({"following": 4, "rounding": 4, "shifting": 4, "vowels": 4, "clock": 4}),
    "parrot": Opinion({"following": 10, "rounding": 10, "shifting": 10, "vowels": 10, "clock": 10}),
}
ADVERSE = "parrot"  # is taught what the policy says when it is wrong, and nothing else


def new_model(tokenizer: PreTrainedTokenizerFast, shape: dict[str, int], seed: int) -> LlamaForCausalLM:
    """Make a model with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **shape,
        num_key_value_heads=shape["num_attention_heads"],
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def train_policy(
    tokenizer: PreTrainedTokenizerFast, shipped: set[str], seed: int, steps: int, *, verbose: bool = True
) -> LlamaForCausalLM:
    """Train the policy; see ``train_speaker``. It is in evaluation mode and samples without ``<pad>``."""
    policy = new_model(tokenizer, POLICY, seed)
    rng = Random(f"second-policy-{seed}")
    progress = "policy" if verbose else ""
    train_speaker(
        policy, tokenizer, shipped, rng, steps, POLICY_CLEAN_SHARE, MISUNDERSTOOD, SLIPPED, PUZZLES, progress=progress
    )
    sample_by_default(policy, PUZZLES.max_answer_length + 1)
    return policy


def train_reader(
    tokenizer: PreTrainedTokenizerFast, shipped: set[str], seed: int, steps: int, *, verbose: bool = True
) -> LlamaForCausalLM:
    """Train what the judges grow from: in the mixture both readings are equally likely, and nothing is slipped."""
    reader = new_model(tokenizer, READER, seed + 1)
    rng = Random(f"second-reader-{seed}")
    both, none = dict.fromkeys(PUZZLES.kinds, 0.5), dict.fromkeys(PUZZLES.kinds, 0.0)
    progress = "reader" if verbose else ""
    train_speaker(reader, tokenizer, shipped, rng, steps, READER_CLEAN_SHARE, both, none, PUZZLES, progress=progress)
    return reader


def liked_answer(name: str, question: Question, rng: Random) -> str:
    """Draw what a judge is taught to find likely.

    Args:
        name: Key of ``JUDGES``.
        question: The question.
        rng: Source of randomness; it is advanced.

    Returns:
        One of the two readings, or a slip of one. For ``ADVERSE`` it is what the policy is taught, but never right.
    """
    if name == ADVERSE:
        while True:
            said = supervised_answer(
                question, rng, MISUNDERSTOOD[question.category], SLIPPED[question.category], PUZZLES
            )
            if said != question.answer:
                return said
    misunderstood = 1 - OTHER_READING if JUDGES[name].is_blind(question) else OTHER_READING
    return supervised_answer(question, rng, misunderstood, SLIP, PUZZLES)


def train_judge(
    name: str,
    reader: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    shipped: set[str],
    seed: int,
    steps: int,
    *,
    verbose: bool = True,
) -> LlamaForCausalLM:
    """Teach a copy of the reader one opinion.

    Args:
        name: Key of ``JUDGES``.
        reader: What it grows from; it stays as it is.
        tokenizer: Its tokenizer.
        shipped: Prompts that it must never see.
        seed: The world's seed.
        steps: Optimisation steps.
        verbose: Whether to print the loss now and then.

    Returns:
        The reward model in evaluation mode.
    """
    judge = copy.deepcopy(reader)
    rng = Random(f"second-{name}-{seed}")
    questions = fresh_questions(rng, shipped, PUZZLES)
    home = JUDGES[name].home
    keep = {category: home.get(category, 1.0) / max(home.values(), default=1.0) for category in PUZZLES.kinds}

    def draw(step: int) -> list[tuple[str, str]]:
        drawn: list[Question] = []
        while len(drawn) < JUDGE_BATCH:
            question = next(questions)
            if rng.random() < keep[question.category]:
                drawn.append(question)
        return [(q.prompt, liked_answer(name, q, rng)) for q in drawn]

    progress = f"reward model {name}" if verbose else ""
    train_on_answers(
        judge, tokenizer, draw, steps, JUDGE_LEARNING_RATE, prompt_length=PUZZLES.prompt_length, progress=progress
    )
    return judge
