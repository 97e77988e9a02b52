"""One whole iteration, from prompts to trained weights: ours, TRL's ``OnlineDPOTrainer``, and the authors' form.

Ours is a real ``fit`` of one iteration; its time is that of rollouts, scoring and steps, loop and records included.

- TRL's experimental trainer makes two responses and one pair of each prompt. To train on P pairs of a prompt it gets
  the prompt P times; ours makes as many responses of each prompt once, 2 P, and P pairs of them.
- The authors' released code samples one response per call and computes both texts of every pair, with a reference
  forward. That is done here for one prompt's pairs and a few calls, and scaled: it would take hours.

The reward model is a random number, so that it costs nothing and always makes pairs.

The last line is about what is not the model's arithmetic: the share of our training loop (steps and scoring, without
rollouts) that is neither loss and backward pass nor reward models. The optimizer's own time counts as overhead here.

Run:  OMP_NUM_THREADS=2 python experiments/benchmarks/iteration.py
Cost: 2 CPU cores, about 8 minutes, 6 GB of memory. Needs `pip install -e .[bench]`.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dpo_step import concatenated_step
from models import SMOLLM2, TOKENIZER, add_model, described, load, prompt_batch, rollout_batch
from peers import lora_config, trl_missing
from results import command_of, parser_of, tell
from rollouts import CALLS_OF_ONE, one_by_one
from timing import conditions, seconds_of, verdict

WORDS = "river stone seven light under garden paper winter music travel"


@dataclass(frozen=True)
class Work:
    """What an iteration does.

    Attributes:
        prompts: How many.
        prompt: Words of each.
        n: Responses of each.
        pairs: Pairs of each.
        new: Tokens of a response.
        batch: Prompts of a step.
    """

    prompts: int
    prompt: int
    n: int
    pairs: int
    new: int
    batch: int


def texts(work: Work) -> list[str]:
    """Prompts of one length that all differ."""
    words = WORDS.split()
    return [
        " ".join(words[(7 * i + 3 * j + i * j) % len(words)] for j in range(work.prompt)) for i in range(work.prompts)
    ]


def chance(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
    """A reward that costs nothing."""
    import torch

    values: list[float] = torch.rand(len(completions)).tolist()
    return values


def model_folder(name: str | None, folder: Path, shape: dict[str, Any] | None) -> Path:
    """A folder with the model and a tokenizer, for those who load for themselves."""
    if shape is None and (name is not None or SMOLLM2.is_dir()):
        return Path(name) if name is not None else SMOLLM2
    from transformers import AutoTokenizer

    load(None, "float32", shape).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)
    return folder


def ours(model: Path, work: Work, dtype: str, folder: Path) -> tuple[float, float]:
    """Seconds of an iteration, and the share of the training loop that is overhead."""
    from lightning.pytorch.loops.fit_loop import _FitLoop
    from lightning.pytorch.strategies import Strategy

    import laser_pl.policy.policy
    from laser_pl.commands.cli import main

    sys.modules["iteration"] = sys.modules[__name__]
    rows = [{"prompt": text, "answer": "", "category": "all"} for text in texts(work)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "test.jsonl").write_text(json.dumps(rows[0]))
    config = {
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "limit_val_batches": 0, "enable_progress_bar": False},
        "model": {
            "weights": {"name": str(model), "dtype": dtype},
            "lora": {"dropout": 0.0},
            "nll_weight": 0.0,
            "evaluation": {"n": 1, "max_new_tokens": 1},
        },
        "data": {
            "train": str(folder / "train.jsonl"),
            "validation": str(folder / "test.jsonl"),
            "test": str(folder / "test.jsonl"),
            "rollouts": {"n": work.n, "max_new_tokens": work.new},
            "batch_size": work.batch,
            "rollout_batch_size": work.batch,
        },
        "selection": {
            "reward_models": {
                name: {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "iteration.chance"}}
                for name in "abcd"
            },
            "signal": {"class_path": "laser_pl.feedback.signals.Gap"},
            "pairs": {"class_path": "laser_pl.data.pairs.RandomPairs", "init_args": {"per_prompt": work.pairs}},
        },
        "runs_dir": str(folder / "runs"),
    }
    (folder / "fit.yaml").write_text(json.dumps(config))
    seconds = {"loop": 0.0, "loss": 0.0, "backward": 0.0}

    def timed(name: str, call: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                seconds[name] += time.perf_counter() - started

        return run

    patches = (
        mock.patch.object(_FitLoop, "advance", timed("loop", _FitLoop.advance)),
        mock.patch.object(Strategy, "backward", timed("backward", Strategy.backward)),
        mock.patch.object(laser_pl.policy.policy, "batch_loss", timed("loss", laser_pl.policy.policy.batch_loss)),
    )
    with patches[0], patches[1], patches[2], open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        run = main(["fit", "--config", str(folder / "fit.yaml")])
    scoring = run.selector.pool.seconds
    rollouts = run.datamodule.rollout_seconds
    overhead = seconds["loop"] - seconds["loss"] - seconds["backward"] - scoring
    return rollouts + seconds["loop"], overhead / seconds["loop"]


def trl(model: Path, work: Work, dtype: str, folder: Path) -> float:
    """Seconds of TRL's training on the same prompts, each as often as it is to have pairs."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    arguments = OnlineDPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=work.pairs,
        gradient_accumulation_steps=work.batch,
        num_train_epochs=1,
        max_new_tokens=work.new,
        temperature=0.8,
        top_k=0,
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=10**6,
        learning_rate=5e-6,
    )
    prompts = [{"prompt": text} for text in texts(work) for _ in range(work.pairs)]
    trainer = OnlineDPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)),
        reward_funcs=chance,
        args=arguments,
        train_dataset=Dataset.from_list(prompts),
        processing_class=tokenizer,
        peft_config=lora_config(),
    )
    return seconds_of(trainer.train)


def authors(model: str | None, work: Work, dtype: str, shape: dict[str, Any] | None) -> float:
    """Seconds of the authors' form, scaled from a few calls and one prompt's pairs."""
    import torch

    from laser_pl.logprobs.padded import response_logprobs
    from laser_pl.models.language_model import Lora

    base = load(model, dtype, shape)
    wrapped = Lora(dropout=0.0).wrap(base)
    batch = rollout_batch(base, 1, work.prompt, work.n, work.new, work.pairs)
    sampling = one_by_one(wrapped.get_base_model().eval(), prompt_batch(base, 1, work.prompt), work.new)
    sampling()
    sampled = seconds_of(sampling) / CALLS_OF_ONE
    step = concatenated_step(wrapped, batch, 1)
    pairs = batch.pairs

    def reference() -> None:
        with torch.no_grad(), wrapped.disable_adapter():
            for index in torch.stack([pairs.chosen, pairs.rejected], dim=-1):
                prompt = torch.zeros(2, dtype=torch.long)
                response_logprobs(
                    wrapped,
                    batch.prompts.tokens[prompt],
                    batch.prompts.mask[prompt],
                    batch.responses.tokens[prompt, index],
                    batch.responses.mask[prompt, index],
                )

    trained = seconds_of(lambda: (reference(), step()))
    return work.prompts * (work.n * sampled + trained)


def run(arguments: argparse.Namespace, command: str) -> str:
    """All of it; returns the section."""
    equal = Work(arguments.prompts, arguments.prompt, 2 * arguments.pairs, arguments.pairs, arguments.new, 2)
    paper = Work(arguments.prompts, arguments.prompt, arguments.n, arguments.pairs, arguments.new, 2)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = model_folder(arguments.model, folder / "model", arguments.shape)
        shares = []
        for peer, work, target in (("trl", equal, 5.0), ("authors", paper, 15.0)):
            if peer not in arguments.peers:
                continue
            mine, theirs = [], []
            for number in range(arguments.repeats):
                place = folder / f"{peer}{number}"
                place.mkdir()
                seconds, share = ours(model, work, arguments.dtype, place)
                mine.append(seconds)
                shares.append(share)
                if peer == "trl":
                    theirs.append(trl(model, work, arguments.dtype, place))
                else:
                    theirs.append(authors(arguments.model, work, arguments.dtype, arguments.shape))
                print(peer, work, seconds, theirs[-1], share, file=sys.stderr, flush=True)
            ratio = sorted(theirs)[len(theirs) // 2] / sorted(mine)[len(mine) // 2]
            whose = {"trl": "TRL `OnlineDPOTrainer`", "authors": "one sample per call, pair by pair (scaled)"}[peer]
            lines.append(
                f"| {whose} | {work.prompts} prompts, n {work.n}, P {work.pairs} |"
                f" {', '.join(f'{s:.1f} s' for s in mine)} | {', '.join(f'{s:.1f} s' for s in theirs)} |"
                f" {ratio:.1f}x | {verdict(ratio, target)} |"
            )
    packages = ["lightning", *(["trl"] if "trl" in arguments.peers else [])]
    share = sorted(shares)[len(shares) // 2]
    return "\n".join(
        [
            "## A whole iteration",
            "",
            f"Written by `{command}`, {conditions(*packages)}. Model: {described(arguments.model)}, {arguments.dtype};"
            f" prompts of {arguments.prompt} words, responses of at most {arguments.new} tokens.",
            "",
            "| other | work | ours | other takes | ratio | target |",
            "|---|---|---|---|---|---|",
            *lines,
            "",
            f"Selection, records, optimizer and Lightning together take {share:.1%} of our training loop (target: at"
            f" most 2 %), median of {len(shares)} fits.",
        ]
    )


def main(args: list[str] | None = None, shape: dict[str, Any] | None = None) -> int:
    """Measure, print and write.

    Args:
        args: The command line.
        shape: Of a random model, for a short form.
    """
    parser = parser_of(__doc__)
    add_model(parser)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--peers", nargs="+", choices=["trl", "authors"], default=["trl", "authors"])
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=128, help="words of a prompt")
    parser.add_argument("--n", type=int, default=30, help="responses of a prompt, in the second row")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--new", type=int, default=48, help="tokens of a response")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args(args)
    arguments.shape = shape
    if "trl" in arguments.peers and trl_missing():
        return 2
    text = run(arguments, command_of("iteration", args))
    tell(arguments.results, "iteration", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
