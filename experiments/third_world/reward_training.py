"""The third world's classifiers: SmolLM2's lower layers, taught which of two answers to prefer."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from experiments.third_world.lessons import OPINIONS, pair
from experiments.third_world.tasks import fresh
from laser_pl.batches import Prompt
from laser_pl.logprobs.padding import pad_right
from laser_pl.rewards.text import whole_texts

LAYERS = 12
RANK = 16
PAIRS = 32
"""Of a step."""
LEARNING_RATE = 1e-3
WARM_UP = 10
"""Steps."""


def train(name: str, backbone: Path, folder: Path, taken: set[str]) -> None:
    """Teach a classifier its opinion, by LoRA and the Bradley-Terry loss, and write it.

    Args:
        name: Key of ``OPINIONS``.
        backbone: What it is made of.
        folder: Where it goes.
        taken: Prompts that it must not see; those that it sees are added.
    """
    opinion = OPINIONS[name]
    torch.manual_seed(0)
    rng = Random(f"third-{name}")
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    tokenizer.chat_template = None  # it reads bare prompts
    body = AutoModelForSequenceClassification.from_pretrained(
        backbone, num_labels=1, num_hidden_layers=LAYERS, dtype=torch.bfloat16
    )
    lora = LoraConfig(
        TaskType.SEQ_CLS, r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", modules_to_save=["score"]
    )
    model = get_peft_model(body, lora)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=LEARNING_RATE, weight_decay=0.0)
    steps = opinion.pairs // PAIRS
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (1 - step / steps))
    questions = fresh(rng, list(opinion.kinds), taken)
    ordered = 0.0
    for step in range(1, steps + 1):
        texts: list[list[int]] = []
        for question in islice(questions, PAIRS):
            said = [f" {answer}" for answer in pair(question, opinion, rng)]
            prompt = Prompt("", question.prompt, question.prompt)
            texts += [text.ids for text in whole_texts(tokenizer, prompt, said, chat_template=False)]
        ids, mask = pad_right(texts, tokenizer.pad_token_id, torch.device("cpu"))
        scores = model(input_ids=ids, attention_mask=mask).logits[:, 0].float()  # (2 * PAIRS,)
        margins = scores[0::2] - scores[1::2]
        loss = -logsigmoid(margins).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        ordered += (margins > 0).float().mean().item()
        if step % 10 == 0:
            print(
                f"{name}: step {step} of {steps}, {ordered / 10:.2f} of the last 10 steps' pairs in order", flush=True
            )
            ordered = 0.0
    model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
