"""What one of N processes holds when they share a policy's weights out (FSDP2), and how much a training step adds.

A Llama of 100M parameters with random weights and an adapter on queries and values, in float32, is shared out by 1, 2
and 4 processes on this machine's CPUs; each takes AdamW's step on responses of its own, which are short, so that next
to nothing but weights is added. Pieces are the bytes of weights, gradients and optimizer that lie in a process,
counted; a step's peak is how far its resident memory rises above what it had before the step; on paper is what `plan`
says is gathered, of which one process alone needs less.

Run:  OMP_NUM_THREADS=1 python experiments/scale/memory.py
Cost: 2 CPU cores, 1 minute, 2 GB.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from transformers import LlamaConfig, LlamaForCausalLM

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.models.language_model import Lora
from laser_pl.runtime.sharding import bytes_gathered, own_piece, shard
from laser_pl.training.summed_gradients import sum_with_gradients

PROMPT, RESPONSE, RESPONSES = 8, 8, 2


def policy(width: int, layers: int, vocabulary: int) -> Any:
    """A Llama with random weights and an adapter."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    return Lora(dropout=0.0).wrap(LlamaForCausalLM(config).eval())


def texts(rank: int) -> ResponseBatch:
    """A prompt and its responses, others in each process."""
    generator = torch.Generator().manual_seed(rank)
    tokens = torch.randint(2, 1000, (1, PROMPT), generator=generator)
    responses = torch.randint(2, 1000, (RESPONSES, RESPONSE), generator=generator)
    prompts = PromptBatch((Prompt("p", "", ""),), tokens, torch.ones_like(tokens))
    return ResponseBatch(prompts, torch.zeros(RESPONSES, dtype=torch.long), responses, torch.ones_like(responses))


def resident(peak: bool = False) -> int:
    """Bytes of this process in memory, now or at most since ``forget_peak``."""
    name = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def forget_peak() -> None:
    """Let the peak begin at what is resident now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def measure(rank: int, size: int, model: Any, folder: str) -> None:
    """What one process holds; the first one writes the largest of all."""
    store = torch.distributed.FileStore(f"{folder}/store", size)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    shard(model.get_base_model(), init_device_mesh("cpu", (size,)))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, responses = torch.optim.AdamW(trained), texts(rank)
    logprob_model = LogprobModel(model, 4096, share=False)  # whether it could be shared takes ten forwards to find out

    def step() -> None:
        groups = logprob_model.groups_to_train(responses)
        losses = [partial(loss_of, group) for group in groups]
        sum_with_gradients(losses, trained).backward()
        optimizer.step()

    def loss_of(group: list[list[int]]) -> torch.Tensor:
        return -logprob_model.group_logprobs(responses, group, recompute=False).sum()

    step()  # so that all is there
    held = [*model.parameters(), *(parameter.grad for parameter in trained)]
    held += [value for state in optimizer.state.values() for value in state.values()]
    pieces = sum(own_piece(tensor).nbytes for tensor in held)
    forget_peak()
    before = resident()
    step()
    added = resident(peak=True) - before
    found: list[Any] = [None] * size
    torch.distributed.all_gather_object(found, (pieces, added))
    if rank == 0:
        largest = [max(values) for values in zip(*found, strict=True)]
        Path(folder, "found").write_text(f"{largest[0]} {largest[1]}", encoding="utf-8")
    torch.distributed.destroy_process_group()


def main(args: list[str] | None = None) -> list[tuple[int, int, int]]:
    """Measure, and print the page's table.

    Returns:
        For each number of processes it, and the bytes of pieces and of a step's peak above them.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    given = parser.parse_args(args)
    model = policy(given.width, given.layers, given.vocabulary)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    on_paper = bytes_gathered(model.get_base_model())
    print(f"{millions:.1f}M parameters, {on_paper / 1e6:.0f} MB gathered on paper\n", flush=True)
    rows = []
    print("| processes | pieces of each | a step's peak above them |\n|---|---|---|", flush=True)
    for size in given.processes:
        with tempfile.TemporaryDirectory() as folder:
            # Forked, so that only this process imports and makes the model: nothing has run here that has threads.
            arguments = size, model, folder
            torch.multiprocessing.start_processes(measure, arguments, nprocs=size, start_method="fork")
            pieces, added = map(int, Path(folder, "found").read_text(encoding="utf-8").split())
        print(f"| {size} | {pieces / 1e6:.0f} MB | {added / 1e6:.0f} MB |", flush=True)
        rows.append((size, pieces, added))
    return rows


if __name__ == "__main__":
    main()
