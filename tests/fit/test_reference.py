"""At an iteration's start the policy and its reference are one model, whatever the base does in training only."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.commands.cli import LaserCLI
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.logprobs.modes import evaluating, recomputes
from laser_pl.models.language_model import Lora
from tests import causal_families
from tests.runs import Fit

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"
SHAPE = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the usual dropout of 0.1 in embeddings, attention and residuals."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(WORLD / "policy")
    tokenizer.save_pretrained(folder)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = AutoConfig.for_model("gpt2", vocab_size=len(tokenizer), **SHAPE, **special)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def margins_of(run: LaserCLI) -> list[float]:
    with run.folder.metrics.open(newline="") as file:
        return [float(row["train/margin"]) for row in csv.DictReader(file) if row["train/margin"]]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # of PEFT, about GPT-2's layers
@pytest.mark.parametrize("checkpointing", [False, True])
def test_without_learning_no_step_moves_away_from_the_reference(
    fit: Fit, gpt2: Path, tmp_path: Path, checkpointing: bool
) -> None:
    """Two iterations, and validation between them, which changes modes and gives them back."""
    still = ["--optimizer=torch.optim.SGD", "--optimizer.lr=0", "--model.lora.dropout=0", "--trainer.max_epochs=2"]
    weights = [f"--model.weights.name={gpt2}", "--model.lora.targets=[c_attn]"]
    run = fit(tmp_path, *still, *weights, f"--model.gradient_checkpointing={checkpointing}")
    margins = margins_of(run)
    assert len(margins) >= 4
    assert max(map(abs, margins)) < 1e-5
    assert recomputes(run.model.model) is checkpointing


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_the_adapters_dropout_alone_is_drawn(fit: Fit, gpt2: Path, tmp_path: Path) -> None:
    still = ["--optimizer=torch.optim.SGD", "--optimizer.lr=0", "--trainer.max_epochs=2", "--model.lora.dropout=0.1"]
    begun = fit(tmp_path / "begun", f"--model.weights.name={gpt2}", "--model.lora.targets=[c_attn]")
    start = f"--model.lora.start={begun.folder.adapter}"  # of a fresh adapter nothing can be dropped
    run = fit(tmp_path / "run", *still, start, f"--model.weights.name={gpt2}", "--model.lora.targets=[c_attn]")
    assert min(map(abs, margins_of(run))) > 0
    drawing = {name.split(".")[-2] for name, module in run.model.train().named_modules()
               if isinstance(module, torch.nn.Dropout) and module.training}  # fmt: skip
    assert drawing == {"lora_dropout"}
    assert not any(isinstance(module, torch.nn.Dropout) and module.training for module in run.model.eval().modules())


def test_each_module_gets_its_mode_back(causal_model: Callable[..., Any]) -> None:
    model = Lora().wrap(causal_model("llama", 90))
    before = {name: module.training for name, module in model.named_modules()}
    with evaluating(model.get_base_model()):
        assert not any(module.training for module in model.get_base_model().modules())
        assert not torch.is_grad_enabled()
    assert {name: module.training for name, module in model.named_modules()} == before
    assert len(set(before.values())) == 2


# With what each draws in training only: dropout in modules and in attention, layer drop, router noise.
DRAWING = [
    "gpt2", "opt", "phi", "gpt_bigcode", "falcon", "bloom", "mixtral", "minimax", "bart", "biogpt", "dbrx",
    "qwen3_next", "llama", "gemma3_text",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys")  # of PEFT, about experts
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", [name for name in DRAWING if name in causal_families.families()])
def test_policy_and_reference_are_one_model_in_every_family(family: str, dtype: torch.dtype) -> None:
    """The step's forward, in training mode, against the one that makes the reference: bit for bit."""
    settings = causal_families.drawing(family)
    assert settings
    base = causal_families.make(family, dtype, **settings)
    model = Lora(dropout=0.0, targets=causal_families.lora_targets(base)).wrap(base)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, causal_families.VOCABULARY, (3, 12), generator=generator)
    lengths = torch.tensor([6, 2, 4])
    prompts = PromptBatch(tuple(Prompt(str(row), "", "") for row in range(2)), tokens[:2, :6], torch.ones(2, 6).long())
    responses = ResponseBatch(
        prompts, torch.tensor([0, 0, 1]), tokens[:, 6:], (torch.arange(6) < lengths[:, None]).long()
    )
    logprob_model = LogprobModel(model, 1000)
    with evaluating(model):
        reference = logprob_model.all_logprobs(responses)
    (group,) = logprob_model.groups(responses)
    order = [row for part in group for row in part]
    found = logprob_model.group_logprobs(responses, group, recompute=False)
    assert found.requires_grad
    assert torch.equal(found.detach(), reference[order])
    with torch.no_grad():
        model.train()  # all of it, as it was once
        torch.manual_seed(0)
        assert not torch.equal(logprob_model.all_logprobs(responses), reference)
