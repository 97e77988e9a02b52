"""Train the reward models: sequence classifiers made of SmolLM2, frozen, and a head that is fitted to preferences.

Run:  python experiments/smollm2/reward_training.py alpaca_eval_pairs.jsonl.gz
Cost: 2 CPU cores, about 2 minutes, 1 GB. Needs prepare.py's SmolLM2 and the prompts of prompts.py.

``fluent`` and ``careless`` learn what two LLM judges, GPT-4 and a 12B Pythia, preferred of two responses to the same
instruction; ``spelling`` learns right from wrong options of this experiment's training questions on strings.
The file has a JSON object a line: ``instruction``, ``output_1``, ``output_2`` and ``judges`` (1 or 2 by name of the
judge), made from AlpacaEval's annotations (CC BY-NC 4.0). They are written to ``reward_models/`` beside this file.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from prompts import FOLDER as PROMPTS
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from laser_pl.batches import Prompt
from laser_pl.logprobs.padding import pad_right
from laser_pl.rewards.text import tokenize

HERE = Path(__file__).resolve().parent
JUDGES = {"fluent": "gpt4", "careless": "oasst_pythia_12b"}
PAIRS, HELD_OUT = 400, 0.2
LONGEST = 240
"""Of instruction and response together, in characters: what this experiment asks for is short."""
DECAY = 1e-2
TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class Preference:
    """Which of two responses was preferred.

    Attributes:
        prompt: To what.
        chosen: The preferred response.
        rejected: The other.
    """

    prompt: str
    chosen: str
    rejected: str


def of_judge(rows: Iterable[dict[str, Any]], judge: str) -> list[Preference]:
    """A judge's preferences between short responses."""
    found = []
    for row in rows:
        verdict = row["judges"].get(judge)
        prompt = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
        outputs = {1: row["output_1"], 2: row["output_2"]}
        if verdict in outputs and all(0 < len(text) <= LONGEST - len(prompt) for text in outputs.values()):
            found.append(Preference(prompt, outputs[verdict], outputs[3 - verdict]))
    return found


def of_exam(rows: Iterable[dict[str, Any]], kind: str) -> list[Preference]:
    """The right option above a wrong one, in questions of one kind, as the experiment's configuration asks them."""
    return [
        Preference(f"{row['question']}\nOptions: {'; '.join(row['options'])}\nAnswer:\n", row["answer"], wrong)
        for row in rows
        if row["category"] == kind
        for wrong in row["options"]
        if wrong != row["answer"]
    ]


@torch.no_grad()
def features(model: Any, tokenizer: Any, preferences: Sequence[Preference]) -> tuple[Tensor, Tensor]:
    """Last hidden states at the last token, of the chosen and of the rejected. Shapes ``(N, d)``, float32."""
    ids = []
    for one in preferences:
        head, tails = tokenize(tokenizer, Prompt("", one.prompt, one.prompt), [one.chosen, one.rejected], True)
        ids += [[*head, *tail] for tail in tails]
    states = torch.empty(len(ids), model.config.hidden_size)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    group: list[int] = []
    for place, index in enumerate(order):
        group.append(index)
        after = order[place + 1] if place + 1 < len(order) else None
        if after is None or len(ids[after]) * (len(group) + 1) > TOKENS_AT_ONCE:
            tokens, mask = pad_right([ids[i] for i in group], 0, model.device)
            hidden = model.model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state  # (G, T, d)
            states[group] = hidden[torch.arange(len(group)), mask.sum(1) - 1].float()
            group = []
    return states[0::2], states[1::2]


def fit_head(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The direction along which the chosen lie above the rejected (Bradley-Terry, with decay). Shape ``(d,)``.

    It is scaled so that differences of scores have a standard deviation of 1: bfloat16 has no more than 8 bits.
    """
    difference = chosen - rejected  # (N, d)
    unit = difference.std(0) + 1e-6
    head = torch.zeros(difference.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([head], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -torch.nn.functional.logsigmoid((difference / unit) @ head).mean() + DECAY * head.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    direction = head.detach() / unit
    return direction / (difference @ direction).std()


def main(args: Sequence[str] | None = None) -> None:
    """Read the preferences, fit the heads, say how they do on what was held out, and write the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--backbone", type=Path, default=HERE / "SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--folder", type=Path, default=HERE / "reward_models")
    options = parser.parse_args(args)
    with gzip.open(options.pairs, "rt", encoding="utf-8") as file:
        judged = [json.loads(line) for line in file]
    exam = [json.loads(line) for line in (options.prompts / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    sources = {name: of_judge(judged, judge) for name, judge in JUDGES.items()}
    sources["spelling"] = of_exam(exam, "strings")
    tokenizer = AutoTokenizer.from_pretrained(options.backbone)
    model = AutoModelForSequenceClassification.from_pretrained(options.backbone, num_labels=1).eval()
    for name, preferences in sources.items():
        Random(name).shuffle(preferences)
        kept = preferences[:PAIRS]
        chosen, rejected = features(model, tokenizer, kept)
        held_out = int(HELD_OUT * len(kept))
        head = fit_head(chosen[held_out:], rejected[held_out:])
        accuracy = ((chosen - rejected)[:held_out] @ head > 0).float().mean().item()
        model.score.weight.data.copy_(head[None])
        model.save_pretrained(options.folder / name)
        tokenizer.save_pretrained(options.folder / name)
        print(f"{name}: {accuracy:.2f} of {held_out} held-out pairs in order, learned from {len(kept) - held_out}")


if __name__ == "__main__":
    main()
