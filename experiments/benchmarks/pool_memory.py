"""Peak memory of training with 1, 2, 4 and 8 reward models: with room for one of them, and with all of them resident.

It makes a policy and the reward models itself (random weights, float32), as large as --parameters says, and does the
same real ``fit`` with every number of reward models, each in a fresh process. They are chosen in turn, so that with a
memory budget of one reward model every step has to swap, which is the worst case.

The peak is the process's largest resident set (VmHWM) less what was resident after the imports. That counts the pages
of mapped weight files too, which is right here: on the CPU float32 weights stay where they are mapped.

Run:  python experiments/benchmarks/pool_memory.py
Cost: 2 CPU cores, about 4 minutes, 2.5 GB of memory and of disk.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
TOKENIZER = HERE.parent / "quickstart" / "policy"
LAYERS = 8


@dataclass(frozen=True)
class Job:
    folder: Path
    arms: int
    budget: int | None
    steps: int


def make_models(folder: Path, arms: int, parameters: float) -> int:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    hidden = 16 * math.ceil(math.sqrt(parameters / LAYERS / 16) / 16)  # a layer has 4 + 3 * 4 matrices of its square
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        num_labels=1,
    )
    for name in ["policy", *(f"reward_model_{arm}" for arm in range(arms))]:
        model = (LlamaForCausalLM if name == "policy" else LlamaForSequenceClassification)(config)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    from laser_pl.language_model import Weights
    from laser_pl.rewards import SequenceClassifier
    return SequenceClassifier(Weights(str(folder / name))).size()


def status():
    out = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        k, _, v = line.partition(":")
        if k in ("VmRSS", "VmHWM", "RssAnon", "RssFile", "RssShmem"):
            out[k] = int(v.split()[0]) * 1024
    return out


def measure(job: Job) -> dict[str, Any]:
    from laser_pl.cli import main
    from laser_pl.rewards.memory import Memory
    import threading, gc

    before = status()
    peak = dict(before)
    log = []
    stop = threading.Event()
    def sample():
        while not stop.wait(0.005):
            s = status()
            for k in s: peak[k] = max(peak[k], s[k])
            peak["sum"] = max(peak.get("sum", 0), s["RssAnon"])
    t = threading.Thread(target=sample, daemon=True); t.start()
    swaps = []
    hold = Memory.hold
    def timed(self, name, device):
        new = name not in self.held
        a = status(); started = time.perf_counter()
        hold(self, name, device)
        if new:
            b = status()
            swaps.append(time.perf_counter() - started)
            log.append([name, *((x[k] - before[k]) >> 20 for x in (a, b) for k in ("RssAnon", "RssFile", "VmHWM"))])
    models = {f"rm{a}": {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": {"weights": {"name": str(job.folder / f"reward_model_{a}")}}} for a in range(job.arms)}
    data = job.folder / "prompts.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": f"sort {i}", "answer": "1", "category": "all"}) for i in range(2 * job.steps)))
    few = job.folder / "few.jsonl"
    few.write_text(json.dumps({"prompt": "sort 1", "answer": "1", "category": "all"}))
    cfg = {"trainer": {"accelerator": "cpu", "max_epochs": 1}, "model": {"weights": {"name": str(job.folder / "policy")}, "evaluation": {"n": 1, "max_new_tokens": 4}},
      "data": {"train": str(data), "validation": str(few), "test": str(few), "rollouts": {"n": 4, "max_new_tokens": 4}, "batch_size": 2, "rollout_batch_size": 2},
      "selection": {"reward_models": models, "bandit": {"class_path": "laser_pl.bandits.RoundRobin"}, "memory_budget": None if job.budget is None else f"{job.budget}B"}, "runs_dir": str(job.folder / "runs")}
    conf = job.folder / "c.yaml"; conf.write_text(json.dumps(cfg))
    with mock.patch.object(Memory, "hold", timed):
        run = main(["fit", "--config", str(conf)])
    stop.set(); t.join()
    after = status()
    for l in log: print(l, file=sys.stderr)
    return {"hwm": (after["VmHWM"] - before["VmRSS"]) >> 20, "before": before["VmRSS"] >> 20, "peakanon": (peak["RssAnon"] - before["RssAnon"]) >> 20, "file": (peak["RssFile"] - before["RssFile"]) >> 20, "swaps": [round(s, 3) for s in swaps], "seconds": run.summary["seconds"], "fw": run.summary["reward_model_forwards"], "swp": run.summary["steps_without_pairs"]}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        size = make_models(d, 4, 50e6)
        print("size", size, size >> 20)
        for arms in (1, 4):
            for b in (size, None):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as ex:
                    print(arms, b, ex.submit(measure, Job(d, arms, b, 8)).result(), flush=True)
