"""A vLLM server's responses to a policy whose weights two real processes share out (FSDP2)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from laser_pl.run.folder import RunFolder
from laser_pl.run.state import run_state
from tests.forked import run_processes
from tests.runs import Fit
from tests.servable import make_servable
from tests.vllm_stub import VLLMStub

STRATEGY = json.dumps(
    {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy", "init_args": {"tensor_parallel_size": 1}}
)
SMALL = [
    "--trainer.max_epochs=2", "--trainer.limit_val_batches=0", "--data.prompts_per_iteration=5", "--data.batch_size=2",
    "--data.rollout_batch_size=2", "--data.rollouts.n=4", "--model.evaluation.n=1", "--model.lora.rank=8",
    "--model.lora.dropout=0", "--model.tokens_per_forward=60", "--optimizer.lr=0.01", "--trainer.limit_test_batches=0",
]  # fmt: skip


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[VLLMStub]:
    stub = VLLMStub(make_servable(tmp_path / "servable"))
    yield stub
    stub.close()


def settings(stub: VLLMStub, folder: Path) -> list[str]:
    engine = {"class_path": "VLLMEngine", "init_args": {"url": stub.url, "adapters": str(folder), "retries": 0}}
    return [*SMALL, f"--model.weights.name={stub.folder}", f"--model.engine={json.dumps(engine)}"]


def heard(stub: VLLMStub) -> tuple[list[str], list[list[tuple[str, int]]]]:
    """Names of the adapters it loaded, which it forgets, and under each the prompts and seeds it was asked for."""
    names = [body["lora_name"] for path, body in stub.asked if path == "/v1/load_lora_adapter"]
    bodies = [body for path, body in stub.asked if path == "/v1/completions" and "prompt_logprobs" not in body]
    stub.asked.clear()
    stub.loaded.clear()
    return names, [sorted((str(b["prompt"]), b["seed"]) for b in bodies if b["model"] == name) for name in names]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_it_answers_two_processes_as_one(
    fit_command: Callable[..., list[str]], fit: Fit, stub: VLLMStub, tmp_path: Path
) -> None:
    """Each iteration it is given one whole adapter, under a new name, and each process's prompts."""
    sharded = ["--trainer.devices=2", f"--trainer.strategy={STRATEGY}"]
    done = run_processes(fit_command(tmp_path / "two", *settings(stub, tmp_path / "adapters of two"), *sharded), 2)
    assert done.returncode == 0, done.stderr
    two, (names, asked) = RunFolder(tmp_path / "two" / "runs" / "small"), heard(stub)
    one = fit(tmp_path / "one", *settings(stub, tmp_path / "adapters of one")).folder
    alone, asked_by_one = heard(stub)

    assert len(names) == len(set(names)) == 2
    assert asked == asked_by_one
    assert [len(requests) for requests in asked] == [3, 3]  # chunks of 2, 2 and 1 prompts, of two processes
    for ours, theirs in zip(names, alone, strict=True):
        published = tensors(tmp_path / "adapters of two" / ours)
        torch.testing.assert_close(published, tensors(tmp_path / "adapters of one" / theirs), atol=1e-4, rtol=0)
    assert max(float(tensor.abs().max()) for name, tensor in published.items() if "lora_B" in name) > 1e-3

    by_two, by_one = (run_state(folder)["decisions"] for folder in (two, one))
    assert len(by_two) == 6
    for name in ("arm", "prompt_ids", "pairs", "reward_model_forwards"):
        assert [d[name] for d in by_two] == [d[name] for d in by_one]
    for name in ("loss", "dpo", "nll"):
        assert [d[name] for d in by_two] == pytest.approx([d[name] for d in by_one], abs=1e-4)
    assert [by_two[step]["dpo"] for step in (0, 3)] == pytest.approx([math.log(2)] * 2, abs=1e-5)
    assert max(mismatches(two)) < 1e-4


def mismatches(folder: RunFolder) -> list[float]:
    """How far the server's model was from the policy, by iteration, in nats per token."""
    with folder.metrics.open(newline="") as file:
        rows: list[Any] = list(csv.DictReader(file))
    found = [float(row["rollouts/mismatch"]) for row in rows if row["rollouts/mismatch"]]
    assert len(found) == 2
    return found
