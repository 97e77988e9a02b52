"""Models and batches, made on the device from a seed: nothing is fetched or read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from sizes import LLAMA_1B, TINY, Shape, Sizes
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, PreTrainedTokenizerFast
from transformers.quantizers import AutoHfQuantizer

from laser_pl.models.language_model import Weights

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from models import prompt_batch, rollout_batch


def make(
    shape: Shape, dtype: torch.dtype, device: torch.device, kind: Any = AutoModelForCausalLM, quantization: str = ""
) -> Any:
    """A Llama with random weights, on the device, in evaluation mode.

    Args:
        shape: Its configuration.
        dtype: Of its weights.
        device: Where it is made.
        kind: With which head.
        quantization: ``nf4`` packs its linear layers as transformers has bitsandbytes do it.
    """
    torch.manual_seed(0)
    with torch.device(device):
        model = kind.from_config(LlamaConfig(**shape, pad_token_id=0, eos_token_id=1, bos_token_id=None), dtype=dtype)
    if quantization:
        _pack(model)
    return model.eval()


def _pack(model: Any) -> None:
    from bitsandbytes.nn import Linear4bit, Params4bit

    head = model.get_output_embeddings()
    places = [(owner, name) for owner in model.modules() for name, layer in owner.named_children()
              if type(layer) is torch.nn.Linear and layer is not head]  # fmt: skip
    for owner, name in places:
        weight = getattr(owner, name).weight.data
        with torch.device("meta"):
            packed = Linear4bit(weight.shape[1], weight.shape[0], bias=False, compute_dtype=weight.dtype)
        packed.weight = Params4bit(weight, quant_type="nf4", module=packed).to(weight.device)  # which packs it
        setattr(owner, name, packed.eval())
    # What the libraries above know a packed model by.
    model.is_quantized = model.is_loaded_in_4bit = True
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    model.quantization_method, model.hf_quantizer = config.quant_method, AutoHfQuantizer.from_config(config)


@contextmanager
def made_not_loaded(device: torch.device) -> Iterator[None]:
    """Run a block in which ``Weights.load`` makes what a folder's ``config.json`` describes."""

    def load(weights: Weights, model_class: Any = AutoModelForCausalLM, onto: torch.device | None = None) -> Any:
        config = weights.load_config().to_dict()
        shape = {key: config[key] for key in {*LLAMA_1B, *TINY, "num_labels"} if key in config}
        dtype = torch.float32 if weights.dtype == "auto" else getattr(torch, weights.dtype)
        return make(shape, dtype, device, model_class, weights.quantization or "")

    with mock.patch.object(Weights, "load", load):
        yield


def folder_of(shape: Shape, folder: Path, weights: bool = False, dtype: torch.dtype = torch.bfloat16) -> Path:
    """A model's folder: its configuration, a tokenizer with a word for every id, and weights if they are wanted."""
    if weights:
        make(shape, dtype, torch.device("cpu")).save_pretrained(folder)
    else:
        config = LlamaConfig(**shape, pad_token_id=0, eos_token_id=1, bos_token_id=None)
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(folder)
    vocabulary = {f"w{id_}": id_ for id_ in range(shape["vocab_size"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="w2"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="w0", eos_token="w1", unk_token="w2", clean_up_tokenization_spaces=False
    ).save_pretrained(folder)
    return folder


def text_of(seed: int, words: int) -> str:
    """A text of so many tokens."""
    return " ".join(f"w{3 + (7 * seed + 3 * place + seed * place) % 101}" for place in range(words))


def prompts_on(card: Any, model: Any, sizes: Sizes) -> Any:
    """Random prompts of one length."""
    return prompt_batch(model, sizes.prompts, sizes.prompt).to(card.device)


def rollouts_on(card: Any, model: Any, sizes: Sizes) -> Any:
    """Random responses with pairs at random."""
    return rollout_batch(model, sizes.prompts, sizes.prompt, sizes.n, sizes.new, sizes.pairs).to(card.device)
