"""What `init` sees in unlike model folders, as policies and as reward models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
)

from laser_pl.data.templates import Plain
from laser_pl.errors import ConfigurationError
from laser_pl.first_config.kinds import guess_arms, is_function
from laser_pl.first_config.policies import GuessedPolicy, guess_policy, prompt_tokens

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)
Change = Callable[[Path], None]


def settings(folder: Path, name: str = "config.json", **changes: Any) -> None:
    """Change a JSON file; what is None is taken out."""
    found = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def chat(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def no_pad(folder: Path) -> None:
    settings(folder, "tokenizer_config.json", pad_token=None)


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def quantised(folder: Path) -> None:
    nf4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    settings(folder, quantization_config=nf4)


@pytest.fixture
def folder(policy_folder: Path, tmp_path: Path) -> Callable[[Change], str]:
    """A copy of the tiny policy, changed."""

    def make(change: Change) -> str:
        made = shutil.copytree(policy_folder, tmp_path / change.__name__)
        change(made)
        return str(made)

    return make


def other(folder: Path, model: Any, tokenizer_folder: Path) -> str:
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def adapter(policy_folder: Path, tmp_path: Path) -> str:
    """A LoRA adapter on the tiny policy."""
    base = AutoModelForCausalLM.from_pretrained(policy_folder)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(base, lora).save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


def short(policy: GuessedPolicy) -> tuple[Any, ...]:
    pad = policy.pad_token and policy.pad_token.value
    return (policy.template.value.rpartition(".")[2], pad, policy.lora.value["targets"], policy.max_new_tokens.value)


Q_AND_V = ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (chat, ("Chat", None, Q_AND_V, 256)),
        (no_pad, ("Plain", "<eos>", Q_AND_V, 256)),
        (quantised, ("Plain", None, Q_AND_V, 256)),
        (without_weights, ("Plain", None, Q_AND_V, 256)),  # `plan`, which follows, says so
    ],
)
def test_a_policy(folder: Callable[[Change], str], change: Change, seen: tuple[Any, ...]) -> None:
    found = guess_policy(folder(change))
    assert short(found) == seen
    assert found.context == 512
    assert ("quantised as saved (bitsandbytes, 4 bits)" in found.weights.why) == (change is quantised)
    assert bool(found.template.ask) == (change is not chat)


def test_a_policy_of_another_family_that_reads_little(tokenizer_folder: Path, tmp_path: Path) -> None:
    shape = GPT2Config(vocab_size=120, n_embd=8, n_layer=1, n_head=2, n_positions=64)
    found = guess_policy(other(tmp_path / "gpt2", GPT2LMHeadModel(shape), tokenizer_folder))
    assert short(found) == ("Plain", None, "all-linear", 32)


def test_a_policy_goes_on_from_an_adapter(adapter: str, policy_folder: Path) -> None:
    found = guess_policy(adapter)
    assert found.weights.value == str(policy_folder)
    assert found.lora.value == {"rank": 4, "alpha": 8, "targets": ["q_proj"], "start": adapter}


@pytest.mark.parametrize(
    ("context", "lengths", "limit", "too_long"),
    [
        (512, [300, 300, 9], 256, "2 of 3"),
        (8192, [1500, 9], 2048, ""),
        (8192, [1024], 1024, ""),
        (None, [2049], 4096, ""),
    ],
)
def test_prompts_fit_where_the_model_reads_as_much(
    policy_folder: Path, context: int | None, lengths: list[int], limit: int, too_long: str
) -> None:
    policy = replace(guess_policy(str(policy_folder)), context=context)
    found = prompt_tokens(policy, ["a" * length for length in lengths], Plain())
    assert (found.value, found.ask[:6]) == (limit, too_long)
    assert f"the longest has {max(lengths)} tokens" in found.why


def test_what_writes_nothing_is_no_policy(classifier_folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no causal language model but LlamaForSequenceClassification"):
        guess_policy(str(classifier_folders["a"]))
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="whose encoder reads prompts"):
        guess_policy(str(tmp_path))


def test_reward_models(
    folder: Callable[[Change], str],
    classifier_folders: dict[str, Path],
    policy_folder: Path,
    adapter: str,
    tokenizer_folder: Path,
    tmp_path: Path,
) -> None:
    shape = BertConfig(vocab_size=120, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    encoder = other(tmp_path / "bert.base", BertForSequenceClassification(shape), tokenizer_folder)
    words = [str(classifier_folders["a"]), encoder, folder(chat), str(policy_folder), adapter, "rewards.brevity",
             "http://localhost:5000/get_reward", "http://localhost:8000/v1", str(policy_folder)]  # fmt: skip
    found = guess_arms(words, answers=False)
    kinds = {name: guess.value["class_path"].rpartition(".")[2] for name, guess in found.items()}
    again = policy_folder.name
    assert kinds == {
        classifier_folders["a"].name: "SequenceClassifier", "bert_base": "SequenceClassifier", "chat": "PointwiseJudge",
        again: "Likelihood", "adapter": "ImplicitReward", "brevity": "FunctionReward", "server": "RemoteReward",
        "server-8": "ChatJudge", f"{again}-9": "Likelihood",
    }  # fmt: skip
    assert found["bert_base"].value["init_args"]["head_weights"] == [-1, 1]
    assert "LABEL_0, LABEL_1" in found["bert_base"].why
    assert found["adapter"].value["init_args"] == {"weights": {"name": str(policy_folder)}, "adapter": adapter}
    assert {name for name, guess in found.items() if guess.ask} == {
        "bert_base",
        "chat",
        "adapter",
        "server",
        "server-8",
    }


def test_what_cannot_judge_is_refused(tmp_path: Path, adapter: str) -> None:
    settings(Path(adapter), "adapter_config.json", task_type="SEQ_CLS")
    with pytest.raises(ConfigurationError, match=r"is one for SEQ_CLS, which cannot be asked as it is\. Merge it"):
        guess_arms([adapter], answers=True)
    BertConfig(architectures=["BertForMaskedLM"]).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="is no causal language model but BertForMaskedLM"):
        guess_arms([str(tmp_path)], answers=True)
    with pytest.raises(ConfigurationError, match="something has to judge responses"):
        guess_arms([], answers=False)


def test_answers_judge_where_nobody_else_does() -> None:
    (guess,) = guess_arms([], answers=True).values()
    assert guess.value == {"class_path": "laser_pl.rewards.Verifier"}
    assert "nothing to choose" in guess.ask


@pytest.mark.parametrize(("word", "expected"), [("a.b", True), ("a.b.c", True), ("a", False), ("org/a.b", False)])
def test_functions_are_told_from_names(word: str, expected: bool) -> None:
    assert is_function(word) == expected
