"""Rows that are whole runs of the command line, on models with few parameters."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from card import Card, Finding, LeftOut, gib
from rich.console import Console
from shapes import folder_of, text_of
from sizes import Sizes

from laser_pl.callbacks.reward_selection import RewardSelection
from laser_pl.commands.cli import LaserCLI, main
from laser_pl.forecast.command import plan
from laser_pl.models.language_model import Weights
from laser_pl.rewards.memory import Memory
from laser_pl.run.metrics_csv import read_cells
from laser_pl.run.state import digest, run_state

ROOT = Path(__file__).resolve().parents[2]
LN_2 = 0.693147
BUDGET = 4096
"""Tokens of a forward; the default of ``model.tokens_per_forward``."""
TOLERANCE = {"plan": 0.2, "ln 2": 0.02}
"""How far off a forecast of memory may be, as a share, and the first DPO loss in nats, where the policy computes in
bfloat16 and so rounds each of the two log-probabilities of a pair."""


def fit(card: Card, folder: Path, *words: str, brief: bool = True) -> LaserCLI:
    """The quickstart on the card, with something changed.

    Args:
        card: Where it runs.
        folder: Where its run lies.
        *words: What is changed.
        brief: Whether it is cut down to two steps and a few questions.
    """
    quickstart = ["--config", str(ROOT / "experiments" / "quickstart.yaml")]
    short = []
    if brief:
        questions = (ROOT / "experiments" / "quickstart" / "prompts" / "test.jsonl").read_text(encoding="utf-8")
        few = folder / "few.jsonl"
        few.parent.mkdir(parents=True, exist_ok=True)
        few.write_text("\n".join(questions.splitlines()[:8]), encoding="utf-8")
        short = ["--trainer.max_epochs=1", "--data.prompts_per_iteration=32", f"--data.validation={few}",
                 f"--data.test={few}"]  # fmt: skip
    return _quietly(lambda: main(["fit", *quickstart, *short, *on(card), f"--runs_dir={folder / 'runs'}", *words]))


def on(card: Card) -> list[str]:
    """What makes a run use the card."""
    return [f"--trainer.accelerator={'gpu' if card.is_cuda else 'cpu'}", "--trainer.devices=1"]


def _quietly(call: Callable[[], Any]) -> Any:
    before = Path.cwd()
    os.chdir(ROOT)  # paths in shipped configurations start there
    try:
        with redirect_stdout(StringIO()):
            return call()
    finally:
        os.chdir(before)


# -- runs with models made for them ------------------------------------------------------------------------------------


def configuration(
    folder: Path, policy: dict[str, Any], judges: dict[str, Any], sizes: Sizes, batches: int, budget: int = BUDGET
) -> Path:
    """A run of one iteration whose responses are all as long as they may be, as a file.

    Args:
        folder: Where it lies.
        policy: The section ``model.weights``.
        judges: The section ``selection.reward_models``.
        sizes: Of prompts and responses.
        batches: Steps.
        budget: Tokens of a forward of the policy's; of what is sampled together 32 times as many.
    """
    rows = [{"prompt": text_of(i, sizes.prompt), "answer": "w3"} for i in range(batches * sizes.prompts)]
    for name, own in (("train", rows), ("few", rows[:2])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, own)), encoding="utf-8")
    config = {
        "runs_dir": str(folder / "runs"),
        "trainer": {
            "max_epochs": 1,
            "limit_val_batches": 0,
            "limit_test_batches": 0,
            "enable_progress_bar": False,
        },
        "model": {
            "weights": policy,
            "lora": {"dropout": 0.0},
            "tokens_per_forward": budget,
            "evaluation": {"n": 1, "max_new_tokens": 1},
        },
        "data": {
            "train": str(folder / "train.jsonl"),
            "validation": str(folder / "few.jsonl"),
            "test": str(folder / "few.jsonl"),
            "columns": {"category": None},
            "rollouts": {"n": sizes.n, "max_new_tokens": sizes.new, "tokens_at_once": 32 * budget},
            "batch_size": sizes.prompts,
            "rollout_batch_size": sizes.prompts,
        },
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
        "selection": {
            "reward_models": judges,
            "bandit": {"class_path": "laser_pl.bandits.RoundRobin"},
            "pairs": {"class_path": "laser_pl.data.pairs.RandomPairs", "init_args": {"per_prompt": sizes.pairs}},
        },
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def likelihood(folder: Path, **weights: Any) -> dict[str, Any]:
    """A reward model."""
    return {"class_path": "laser_pl.rewards.Likelihood", "init_args": {"weights": {"name": str(folder), **weights}}}


class Seen:
    """One run with what it was forecast and what it took.

    Args:
        card: Where it runs.
        words: Its command line behind the command.
    """

    def __init__(self, card: Card, words: Sequence[str]) -> None:
        every = [*words, *on(card)]
        forecast = _quietly(lambda: plan(every, Console(file=StringIO())))
        device = forecast.devices[0]
        libraries = device.rest.get("Python and libraries") or 0  # on a CPU they are in the same memory
        self.forecast = device.at_peak - libraries
        found: list[LaserCLI] = []
        self.taken = card.peak(lambda: found.append(_quietly(lambda: main(["fit", *every]))))
        self.run = found.pop()
        self.summary: dict[str, Any] = self.run.summary
        self.losses = losses_of(self.run)
        self.first_dpo = losses_of(self.run, "train/dpo")[0]

    @property
    def starts_at_ln_2(self) -> bool:
        """Whether policy and reference were one, as they are at an iteration's start."""
        return abs(self.first_dpo - LN_2) < TOLERANCE["ln 2"]

    @property
    def memory(self) -> str:
        """Its peak beside the forecast."""
        share = self.taken / self.forecast - 1
        return f"peak {gib(self.taken)}, `plan` said {gib(self.forecast)} ({share:+.0%})"

    @property
    def as_forecast(self) -> bool:
        """Whether the forecast was right."""
        return abs(self.taken / self.forecast - 1) <= TOLERANCE["plan"]

    @property
    def numbers(self) -> dict[str, float]:
        """For the JSON."""
        return {"peak": self.taken, "forecast": self.forecast, "first_dpo": self.first_dpo,
                **{f"seconds/{name}": value for name, value in self.summary["seconds"].items()}}  # fmt: skip


def losses_of(run: LaserCLI, which: str = "train/loss") -> list[float]:
    """What a run logged in each step."""
    return [float(row[which]) for row in read_cells(run.folder.metrics)[1] if row.get(which)]


def _trained(card: Card, seen: Seen) -> tuple[str, bool]:
    """What a run's first loss and memory say; on a CPU memory is told, and counted otherwise than there."""
    text = f"{len(seen.losses)} steps, first DPO loss {seen.first_dpo:.4f} (ln 2 = 0.6931); {seen.memory}"
    return text, seen.starts_at_ln_2 and (seen.as_forecast or not card.is_cuda)


def pool(card: Card, sizes: Sizes) -> Finding:
    """Three reward models in a budget that holds one, so each is loaded when its turn comes."""
    evicted: list[str] = []
    give_way = Memory._evict

    def noting(self: Memory, name: str, device: torch.device) -> None:
        evicted.append(name)
        give_way(self, name, device)

    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of(sizes.small, Path(scratch, "model"), weights=True)
        judges = {name: likelihood(folder) for name in "abc"}
        path = configuration(Path(scratch), {"name": str(folder)}, judges, sizes.short, batches=5)
        budget = Weights(str(folder)).size() * 3 // 2
        words = [f"--config={path}", f"--selection.memory_budget={budget}", "--trainer.deterministic=true"]
        with mock.patch.object(Memory, "_evict", noting):
            disk = Seen(card, words)
            moved = len(evicted)
            host = _quietly(lambda: main(["fit", *words, *on(card), "--selection.spill=cpu", "--name=spilled"]))
        agree = disk.losses == losses_of(host)
    text, holds = _trained(card, disk)
    text = f"{moved} evictions to disk, {len(evicted) - moved} to the host's memory, losses: {_yes(agree)}; {text}"
    moved_alike = moved >= 4 and len(evicted) == 2 * moved
    return Finding(text, holds and agree and moved_alike, {**disk.numbers, "evictions": moved})


def nf4(card: Card, sizes: Sizes) -> Finding:
    """A policy and a judge in 4 bits, and an optimizer in 8."""
    return _packed(card, sizes, "nf4", "bitsandbytes.optim.AdamW8bit")


def int8(card: Card, sizes: Sizes) -> Finding:
    """A policy and a judge in 8 bits, and an optimizer whose state may lie in the host's memory."""
    return _packed(card, sizes, "int8", "bitsandbytes.optim.PagedAdamW8bit")


def _packed(card: Card, sizes: Sizes, how: str, optimizer: str) -> Finding:
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of(sizes.small, Path(scratch, "model"), weights=True)
        weights = {"name": str(folder), "dtype": "bfloat16", "quantization": how}
        judges = {"packed": likelihood(folder, dtype="bfloat16", quantization=how), "whole": likelihood(folder)}
        path = configuration(Path(scratch), weights, judges, sizes.short, batches=2)
        seen = Seen(card, [f"--config={path}", f"--optimizer.class_path={optimizer}"])
        given = type(seen.run.trainer.optimizers[0]).__name__
    text, holds = _trained(card, seen)
    return Finding(f"{given}; {text}", holds and given == optimizer.rsplit(".", 1)[1], seen.numbers)


def mixed(card: Card, sizes: Sizes) -> Finding:
    """Weights in float32, products in bfloat16."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of(sizes.small, Path(scratch, "model"), weights=True)
        path = configuration(
            Path(scratch), {"name": str(folder), "dtype": "float32"}, {"a": likelihood(folder)}, sizes.short, batches=2
        )
        seen = Seen(card, [f"--config={path}", "--trainer.precision=bf16-mixed"])
    text, holds = _trained(card, seen)
    return Finding(text, holds, seen.numbers)


# -- the quickstart in many forms --------------------------------------------------------------------------------------


def signals(card: Card, sizes: Sizes) -> Finding:
    """Each preset and some signals with one choice per prompt, more kinds of reward model, and what follows a run."""
    experiments = ROOT / "experiments"
    presets = sorted((experiments / "presets").glob("*.yaml"))[: 1 if sizes.brief else None]
    done = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for preset in presets:
            fit(card, folder, f"--config={preset}", "--selection.granularity=prompt", f"--name={preset.stem}")
            done.append(preset.stem)
        policy = f"{experiments / 'quickstart' / 'policy'}"
        more = {
            "likelihood": likelihood(Path(policy)),
            "implicit": {
                "class_path": "laser_pl.rewards.ImplicitReward",
                "init_args": {"weights": {"name": policy}, "reference": {"name": policy}},
            },
        }
        (folder / "more.yaml").write_text(json.dumps({"selection": {"reward_models": more}}), encoding="utf-8")
        last = fit(card, folder, f"--config={folder / 'more.yaml'}", "--name=more",
                   "--selection.signal=laser_pl.feedback.signals.Advantage", "--selection.agreement_probe=4",
                   "--model.lora.dropout=0.1", "--data.rollouts.top_p=0.9")  # fmt: skip
        done.append("more kinds of reward model")
        common = [f"--config={last.folder.config}", f"--ckpt_path={last.folder.checkpoint}"]
        for command in ("test", "predict"):
            where = [f"--out={folder / 'predictions.jsonl'}"] if command == "predict" else []
            _quietly(lambda words=(command, *common, *where): main(list(words)))
            done.append(command)
    return Finding(", ".join(done), True, {"runs": len(done)})


def resumed(card: Card, sizes: Sizes) -> Finding:
    """A run that is broken off within an iteration and goes on, and one that is not, told to be deterministic."""
    sure = ("--data.batch_size=8", "--trainer.deterministic=true", "--checkpoint_every=1", "--name=run")
    with tempfile.TemporaryDirectory() as scratch:
        states = []
        for name in ("whole",) if sizes.brief else ("whole", "again"):
            states.append(digest(run_state(fit(card, Path(scratch, name), *sure).folder)))
        after = RewardSelection.on_train_batch_end

        def breaking(self: RewardSelection, trainer: Any, *rest: Any) -> None:
            after(self, trainer, *rest)
            if trainer.global_step == 2:
                raise BrokenOffError

        broken = Path(scratch, "broken")
        with mock.patch.object(RewardSelection, "on_train_batch_end", breaking):
            try:
                fit(card, broken, *sure)
            except BrokenOffError:
                pass
            else:
                raise LeftOut("the run ended before it could be broken off")
        states.append(digest(run_state(fit(card, broken, *sure, "--resume").folder)))
    same = [state == states[0] for state in states[1:]]
    told = [f"the same run again: {_yes(equal)}; " for equal in same[:-1]]
    return Finding(f"{''.join(told)}resumed: {_yes(same[-1])}", all(same))


class BrokenOffError(RuntimeError):
    """Breaks a run off."""


def _yes(equal: bool) -> str:
    return "equal to the last bit" if equal else "not equal"
