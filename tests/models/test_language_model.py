"""Loading weights in every precision, and the adapter on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Lora, Weights

TOKENS = torch.tensor([[5, 9, 17, 23, 8, 1]])
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory, llama_config: Any) -> Path:
    """A model with layers as wide as bitsandbytes' blocks."""
    folder = tmp_path_factory.mktemp("wide")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlamaForCausalLM(llama_config(80, hidden_size=64, intermediate_size=128)).save_pretrained(folder)
    return folder


def loss_of(model: Any) -> torch.Tensor:
    loss: torch.Tensor = model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss
    return loss


@pytest.mark.parametrize(
    ("quantization", "layer"),
    [("nf4", bnb.nn.Linear4bit), ("int8", bnb.nn.Linear8bitLt)],
)
def test_quantised_weights_load_and_train_an_adapter(wide_folder: Path, quantization: Any, layer: type) -> None:
    """Really quantised, as close to the full weights as the type allows, and with a gradient in the adapter alone."""
    base = Weights(str(wide_folder), quantization=quantization, dtype="float32").load()
    projections = [module for name, module in base.named_modules() if name.endswith(tuple(LINEAR))]
    assert len(projections) == 2 * len(LINEAR)
    assert {type(module) for module in projections} == {layer}
    assert {module.weight.dtype for module in projections} == {{"nf4": torch.uint8, "int8": torch.int8}[quantization]}

    full = Weights(str(wide_folder)).load()
    rounded = base.model.layers[0].mlp.up_proj.weight
    exact = full.model.layers[0].mlp.up_proj.weight.detach()
    if quantization == "nf4":
        found = bnb.functional.dequantize_4bit(rounded.data, rounded.quant_state)
        # Half of NF4's widest gap, 1 - 0.696, times the largest of each block of 64; its own rounding adds a little.
        bound = 0.16 * exact.view(-1, 64).abs().amax(-1, keepdim=True).expand(-1, 64).reshape(exact.shape)
    else:
        found = rounded.CB.float() * rounded.SCB[:, None] / 127
        # Half a step of 1/127, and the rounding to float16 that comes before it, of the largest of each row.
        bound = (0.5 / 127 + 2**-11) * exact.abs().amax(-1, keepdim=True).expand_as(exact)
    assert ((found - exact).abs() <= bound).all()
    assert not torch.equal(found, exact)

    model = Lora(rank=4, dropout=0.0).wrap(base)
    loss = loss_of(model.train())
    loss.backward()
    assert loss.isfinite()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2
    assert all("lora_" in name for name in trained)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in trained.values())
    # lora_B starts at zero, so at first only lora_B learns.
    assert all(gradient.abs().max() > 0 for name, gradient in trained.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", torch.float32), ("float64", torch.float64), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_weights_come_in_the_type_asked_for(policy_folder: Path, dtype: Any, expected: torch.dtype) -> None:
    model = Weights(str(policy_folder), dtype=dtype).load()
    assert {parameter.dtype for parameter in model.parameters()} == {expected}
    assert not model.training


def test_auto_keeps_the_type_they_were_saved_in(policy_folder: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(policy_folder, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert Weights(str(tmp_path)).load().dtype == torch.bfloat16


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_the_one_asked_for(policy_folder: Path, attention: str) -> None:
    assert Weights(str(policy_folder), attention=attention).load().config._attn_implementation == attention


@pytest.mark.parametrize("method", ["load", "load_config", "load_tokenizer"])
def test_a_missing_folder_is_one_sentence(method: str, tmp_path: Path) -> None:
    arguments = {"load_tokenizer": {"padding_side": "left"}}.get(method, {})
    for name, where in ((str(tmp_path / "typo"), ""), ("no/such/folder", f" in {Path.cwd()}")):
        with pytest.raises(ConfigurationError, match=f"There is no folder '{name}'{where}\\. Check") as caught:
            getattr(Weights(name), method)(**arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"Cannot load a \w+ from 'nobody/nothing'") as caught:
        getattr(Weights("nobody/nothing"), method)(**arguments)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_one_sentence(tokenizer_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"Cannot load a model from '{tokenizer_folder}'") as caught:
        Weights(str(tokenizer_folder)).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizer_pads_on_the_side_asked_for(policy_folder: Path, side: Any) -> None:
    ids = Weights(str(policy_folder)).load_tokenizer(side)(["a", "abc"], padding=True)["input_ids"]
    assert [ids[0].index(0), ids[0][::-1].index(0)] == ([0, 1] if side == "left" else [1, 0])


@pytest.mark.parametrize("targets", [["q_prj"], "nothing_like_it"], ids=["a list", "a pattern"])
def test_targets_that_match_nothing_name_the_layers_there_are(policy_folder: Path, targets: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.lora\.targets .* match no layer") as caught:
        Lora(targets=targets).wrap(Weights(str(policy_folder)).load())
    assert all(name in str(caught.value) for name in LINEAR)


@pytest.mark.parametrize(
    ("targets", "adapted"),
    [(("q_proj", "v_proj"), {"q_proj", "v_proj"}), (["o_proj"], {"o_proj"}), ("all-linear", set(LINEAR))],
)
def test_the_adapter_sits_on_its_targets_and_the_base_is_frozen(
    policy_folder: Path, targets: Any, adapted: set[str]
) -> None:
    model = Lora(rank=3, targets=targets).wrap(Weights(str(policy_folder)).load())
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in trained} == adapted
    assert all("lora_" in name for name, _ in trained)
    assert {min(p.shape) for _, p in trained} == {3}


@pytest.mark.parametrize(
    ("dtype", "expected"), [("bfloat16", torch.float32), ("float32", torch.float32), ("float64", torch.float64)]
)
def test_the_adapter_is_float32_or_wider(policy_folder: Path, dtype: Any, expected: torch.dtype) -> None:
    model = Lora().wrap(Weights(str(policy_folder), dtype=dtype).load())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {expected}


def test_a_fresh_adapter_changes_nothing(policy_folder: Path) -> None:
    base = Weights(str(policy_folder)).load()
    with torch.no_grad():
        before = base(TOKENS).logits
        model = Lora().wrap(base).eval()
        assert torch.equal(model(TOKENS).logits, before)
        with model.disable_adapter():
            assert torch.equal(model(TOKENS).logits, before)


def test_the_update_is_scaled_by_alpha_over_rank(policy_folder: Path) -> None:
    """In closed form for one layer: W x + alpha / rank * B A x."""
    model = Lora(rank=2, alpha=6, dropout=0.0).wrap(Weights(str(policy_folder), dtype="float64").load()).eval()
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        b.copy_(torch.randn(b.shape, generator=generator, dtype=torch.float64))
        x = torch.randn(4, 32, generator=generator, dtype=torch.float64)
        expected = x @ layer.base_layer.weight.T + 3 * x @ a.T @ b.T
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_checkpointed_gradients_are_the_same(policy_folder: Path) -> None:
    """And each layer really runs twice for them."""
    gradients, runs = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = Lora(dropout=0.0).wrap(Weights(str(policy_folder), dtype="float64").load(), checkpointing).train()
        model.get_base_model().model.layers[0].mlp.register_forward_pre_hook(
            lambda *_, at=checkpointing: runs.append(at)
        )
        loss_of(model).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-10)
    assert runs == [False, True, True]


def test_layers_of_4_bits_pass_gradients_after_they_were_evaluated(
    policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where bitsandbytes sees a CPU with bfloat16, for which it would pack them and lose the gradient."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True, raising=False)  # older ones do not ask
    model = Weights(str(policy_folder), dtype="float32", quantization="nf4").load()
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert layers
    assert not any(getattr(layer, "support_avx512bf16_for_cpu", False) for layer in layers)
    given = torch.randn(3, layers[0].in_features)

    def gradient() -> torch.Tensor:
        asked = given.clone().requires_grad_()
        (found,) = torch.autograd.grad(layers[0](asked).sum(), asked)
        return found

    before = gradient()
    with torch.no_grad():
        layers[0](given)
    assert torch.equal(gradient(), before)
    assert bool(before.any())


@pytest.mark.parametrize("settings", [{"alpha": 0}, {"alpha": -1}, {"dropout": 1.0}, {"dropout": -0.5}])
def test_an_adapter_that_could_learn_nothing_is_refused_when_it_is_made(settings: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"model\.lora\.alpha must be > 0 and model\.lora\.dropout in \[0, 1\)"
    ):
        Lora(**settings)


@pytest.mark.parametrize("content", ["[]", '{"max_new_tokens": 0}'])
def test_a_broken_generation_config_is_one_sentence(policy_folder: Path, tmp_path: Path, content: str) -> None:
    folder = Path(shutil.copytree(policy_folder, tmp_path / "policy"))
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(ConfigurationError, match=f"^Cannot load a generation config from '{folder}': "):
        Weights(str(folder)).load_generation_config()


def test_without_a_word_on_its_type_a_model_is_as_large_as_its_files(wide_folder: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(wide_folder).to(torch.bfloat16).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if "dtype" not in k}))
    weights = Weights(str(tmp_path))
    model = weights.load()
    assert model.dtype == torch.bfloat16
    assert weights.size() == weights.size_of(model)
