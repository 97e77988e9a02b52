"""Only what a text goes through gets an adapter, and every target that is named is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, Gemma3Config, Gemma3ForConditionalGeneration

from laser_pl.commands.cli import LaserCLI
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Lora, Weights
from laser_pl.training.lora_targets import layers_of_text, untrained_targets
from tests import causal_families

pytestmark = pytest.mark.slow

TEXT = {"vocab_size": 92, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "sliding_window": 8,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "initializer_range": 0.2}  # fmt: skip
IMAGES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 28, "patch_size": 14}  # fmt: skip


@pytest.fixture(scope="module")
def sees_images(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A tiny Gemma 3 with its tower for images, whose layers have the decoder's names."""
    folder = tmp_path_factory.mktemp("gemma3")
    config = Gemma3Config(text_config=TEXT, vision_config=IMAGES, mm_tokens_per_image=4, image_token_index=91,
                          boi_token_index=90, eoi_token_index=90)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    for file in tokenizer_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def trained_layers(model: Any) -> set[str]:
    return {name.split(".lora_")[0].removeprefix("base_model.model.")
            for name, parameter in model.named_parameters() if parameter.requires_grad}  # fmt: skip


def layers_with_gradient(model: Any) -> set[str]:
    """By the model itself, after a step back."""
    ids = torch.arange(3, 27).view(2, 12)
    model.get_base_model()(input_ids=ids, use_cache=False).logits.float().square().sum().backward()
    return {name.split(".lora_")[0].removeprefix("base_model.model.")
            for name, parameter in model.named_parameters() if parameter.grad is not None}  # fmt: skip


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), "all-linear", r".*\.(q|v)_proj"], ids=str)
def test_a_tower_for_images_gets_no_adapter(sees_images: Path, targets: Any) -> None:
    model = Lora(rank=2, targets=targets).wrap(Weights(str(sees_images)).load())
    found = trained_layers(model)
    assert found
    assert all(name.startswith("model.language_model.") for name in found)
    assert layers_with_gradient(model) == found
    skeleton = Lora(rank=2, targets=targets).wrap(Weights(str(sees_images)).skeleton())
    assert trained_layers(skeleton) == found  # what `plan` counts


# Attention to an encoder, indices that choose tokens, towers within the decoder, keys and values of other layers,
# routers, a head whose name is that of a decoder, layers of Linear's kind for groups of heads.
EVERY = ["bart", "deepseek_v32", "git", "gemma3n_text", "mixtral", "modernbert-decoder", "bert", "gpt2", "mllama",
         "mamba", "falcon_h1", "deepseek_v4"]  # fmt: skip
FAMILIES = [family for family in EVERY if family in CONFIG_MAPPING]  # the oldest transformers that we take lacks two


@pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::RuntimeWarning:peft")  # its own, on experts and GPT-2
@pytest.mark.parametrize("family", FAMILIES)
def test_every_adapter_gets_a_gradient(family: str) -> None:
    base = causal_families.make(family)
    model = Lora(rank=2, dropout=0.0, targets="all-linear").wrap(base)
    assert trained_layers(model)
    assert layers_with_gradient(model) == trained_layers(model)


def test_a_model_whose_layers_run_backwards_in_training_mode_alone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ReformerModelWithLMHead cannot be trained by an adapter"):
        Lora(targets="all-linear").wrap(causal_families.make("reformer"))


def test_looking_changes_no_random_number(policy_folder: Path) -> None:
    base = Weights(str(policy_folder)).load()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert layers_of_text(base) >= {"model.embed_tokens", "model.layers.1.self_attn.q_proj", "lm_head"}
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_of_text_alone_has_nothing_to_leave_out(policy_folder: Path) -> None:
    assert untrained_targets(Weights(str(policy_folder)).skeleton(), "all-linear") is None
    assert Lora().wrap(Weights(str(policy_folder)).load()).peft_config["default"].exclude_modules is None


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_proj", "v_prj"], r"'v_prj' match no layer of the model\..* Did you mean 'v_proj'\?"),
        (["q_proj", "fc1"], r"'fc1' match only layers that no text goes through, such as model\.vision_tower"),
        (r".*vision_tower.*q_proj", r"match only layers that no text goes through"),
    ],
)
def test_each_target_must_be_a_layer_of_the_texts_decoder(sees_images: Path, targets: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Lora(targets=targets).untrained(Weights(str(sees_images)).skeleton())
    assert "\n" not in str(caught.value)


def test_a_model_that_no_twin_can_be_made_of_is_taken_as_it_is(
    policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Weights(str(policy_folder)).load()
    monkeypatch.setattr(base, "config", None)
    assert layers_of_text(base) == set()
    assert untrained_targets(base, ["q_proj"]) is None
    with pytest.raises(ConfigurationError, match="match no layer"):
        untrained_targets(base, ["q_prj"])


def test_a_run_trains_the_decoder_of_a_model_that_sees_images(
    fit: Callable[..., LaserCLI], sees_images: Path, tmp_path: Path
) -> None:
    arms = {"short": {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"{__name__}.short"}}}
    run = fit(tmp_path, f"--model.weights.name={sees_images}", f"--selection.reward_models={json.dumps(arms)}",
              "--data.max_prompt_tokens=40")  # fmt: skip
    saved = load_file(run.folder.path / "adapter" / "adapter_model.safetensors")
    assert saved
    assert all("language_model" in name for name in saved)


def short(completions: list[str]) -> list[float]:
    """A reward function."""
    return [-float(len(text)) for text in completions]
