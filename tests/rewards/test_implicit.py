"""The implied reward, against two forwards for every response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Weights
from laser_pl.rewards import ImplicitReward

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, policy_folder: Path) -> Path:
    """An adapter that says something else than its base."""
    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        base = AutoModelForCausalLM.from_pretrained(policy_folder)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(base, config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, llama_config: Any, policy_folder: Path) -> Path:
    """Another language model of the same vocabulary, without a tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    size = AutoModelForCausalLM.from_pretrained(policy_folder).config.vocab_size
    with torch.random.fork_rng():
        torch.manual_seed(9)
        LlamaForCausalLM(llama_config(size)).save_pretrained(folder)
    return folder


@torch.no_grad()
def slow_sum(model: Any, head: list[int], tail: list[int]) -> float:
    logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1].double().log_softmax(-1)
    return sum(float(logits[t, token]) for t, token in enumerate(tail))


@pytest.mark.parametrize("how", ["two models", "adapter"])
def test_is_beta_times_the_log_ratio(
    questions: list[Prompt],
    responses: list[list[str]],
    policy_folder: Path,
    other: Path,
    adapter: Path,
    tokenizer: Any,
    how: str,
) -> None:
    load = AutoModelForCausalLM.from_pretrained
    if how == "two models":
        reward = ImplicitReward(Weights(str(policy_folder)), Weights(str(other)), beta=0.3)
        trained, reference = load(policy_folder), load(other)
    else:
        reward = ImplicitReward(Weights(str(policy_folder)), adapter=str(adapter), beta=0.3)
        trained, reference = PeftModel.from_pretrained(load(policy_folder), adapter), load(policy_folder)
    reward.check()
    reward.load(CPU)
    expected = []
    for prompt, row in zip(questions, responses, strict=True):
        text = prompt.prompt if isinstance(prompt.prompt, str) else "1+1?\n\n2\n\n2+2?"
        head = tokenizer.convert_tokens_to_ids([*text])
        for response in row:
            tail = [*tokenizer.convert_tokens_to_ids([*response]), tokenizer.eos_token_id]
            expected.append(0.3 * (slow_sum(trained, head, tail) - slow_sum(reference, head, tail)))
    assert max(map(abs, expected)) > 0.1
    assert reward.score(questions, responses).flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_a_model_against_itself_has_no_opinion(
    questions: list[Prompt], responses: list[list[str]], policy_folder: Path
) -> None:
    reward = ImplicitReward(Weights(str(policy_folder)), Weights(str(policy_folder)))
    reward.load(CPU)
    assert reward.score(questions, responses).tolist() == [[0.0] * 3] * 3


def test_the_adapter_is_on_again_afterwards(
    questions: list[Prompt], responses: list[list[str]], policy_folder: Path, adapter: Path
) -> None:
    reward = ImplicitReward(Weights(str(policy_folder)), adapter=str(adapter))
    reward.load(CPU)
    assert torch.equal(reward.score(questions, responses), reward.score(questions, responses))


@pytest.mark.parametrize("given", [{}, {"reference": Weights("x"), "adapter": "y"}])
def test_reference_or_adapter(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="needs a reference or an adapter, and not both"):
        ImplicitReward(Weights("z"), **given)


def test_beta_is_positive() -> None:
    with pytest.raises(ConfigurationError, match="beta must be > 0, got 0"):
        ImplicitReward(Weights("z"), adapter="y", beta=0.0)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_without_an_adapter_is_named(policy_folder: Path, adapter: Path, tmp_path: Path, file: str) -> None:
    """A pickled adapter is none."""
    for path in adapter.iterdir():
        if path.name != file and path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ConfigurationError, match=f"There is no {file} in"):
        ImplicitReward(Weights(str(policy_folder)), adapter=str(tmp_path)).check()


def test_an_adapter_of_another_base_is_named(adapter: Path, llama_config: Any, tokenizer: Any, tmp_path: Path) -> None:
    """Found before the first rollout, by its shapes, its layers, or their names."""
    changes: list[dict[str, Any]] = [{"hidden_size": 64}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}]
    for number, change in enumerate(changes):
        base = tmp_path / str(number)
        LlamaForCausalLM(llama_config(len(tokenizer), **change)).save_pretrained(base)
        tokenizer.save_pretrained(base)
        with pytest.raises(ConfigurationError, match=r"does not fit '.*/\d': \d tensors differ, .* Name the base that"):
            ImplicitReward(Weights(str(base)), adapter=str(adapter)).check()
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4)).save_pretrained(base)
    with pytest.raises(ConfigurationError, match=r"does not fit '.*/2': Target modules .* not found in the base model"):
        ImplicitReward(Weights(str(base)), adapter=str(adapter)).check()


def test_a_reference_of_another_vocabulary_is_named(policy_folder: Path, llama_config: Any, tmp_path: Path) -> None:
    LlamaForCausalLM(llama_config(50)).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=r"has 89 tokens and its reference .* 50\. Name the model"):
        ImplicitReward(Weights(str(policy_folder)), Weights(str(tmp_path))).check()


def test_a_classifier_is_no_reference(policy_folder: Path, classifier_folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="no causal language model"):
        ImplicitReward(Weights(str(policy_folder)), Weights(str(classifier_folders["a"]))).check()
