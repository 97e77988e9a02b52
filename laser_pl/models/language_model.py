"""Loading Hugging Face models: the policy's base with its LoRA adapter, and the weights under every reward model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.modes import recompute_layers
from laser_pl.messages.places import absolute, folder_or_name
from laser_pl.messages.suggestions import closest_path, perhaps
from laser_pl.models.causality import why_not_causal
from laser_pl.models.four_bits import differentiable_everywhere
from laser_pl.models.saved_quantized import how_saved, size_by_bits, size_in_files, type_in_files
from laser_pl.training.adapter import ADVICE_ON_START, load_adapter, train_adapter
from laser_pl.training.lora_targets import untrained_targets

Dtype = Literal["auto", "float64", "float32", "bfloat16", "float16"]
Quantization = Literal["nf4", "int8"]

# Of a weight with its share of the scales: nf4 has one byte for 64 of them and 4 bytes for 256 of those; of int8 a
# row's scale is left out.
_QUANTIZED_BYTES = {"nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}


@dataclass
class Weights:
    """Which weights to load, and how. All of it is passed on to Hugging Face transformers.

    Attributes:
        name: A folder, or a hub name where there is a hub.
        dtype: Element type of weights not quantised; ``auto``: as saved.
        attention: ``eager``, ``sdpa`` or ``flash_attention_2``; null: transformers' choice.
        quantization: ``nf4`` (QLoRA's, 4 bits) or ``int8``, by bitsandbytes; null for none.
        trust_remote_code: Whether code that comes with the weights may run.
    """

    name: str
    dtype: Dtype = "auto"
    attention: str | None = None
    quantization: Quantization | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        self.place = folder_or_name(self.name)  # which is no setting, and not written down

    def load(self, model_class: Any = AutoModelForCausalLM, device: torch.device | None = None) -> Any:
        """The model, in evaluation mode, on ``device``; the CPU if none is given.

        Raises:
            ConfigurationError: If there is no such model, or it is not of ``model_class``'s kind.
        """
        self.load_config()  # refuses what must not be loaded
        options: dict[str, Any] = {"dtype": self.dtype if self.dtype == "auto" else getattr(torch, self.dtype)}
        if device is not None and device.type != "cpu":
            options["device_map"] = {"": device}  # straight there, without a second copy in the host's memory
        if self.attention is not None:
            options["attn_implementation"] = self.attention
        if self.quantization is not None:
            options["quantization_config"] = self._bitsandbytes()
        with self._telling("a model"):
            model, found = model_class.from_pretrained(
                self.place,
                use_safetensors=True,
                trust_remote_code=self.trust_remote_code,
                ignore_mismatched_sizes=True,  # else it is told by a table on the screen
                output_loading_info=True,
                **options,
            )
        odd = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
        if odd:  # transformers would draw them at random
            raise ConfigurationError(
                f"The weights of '{self.name}' do not fit its config.json: {len(odd)} tensors are missing or of another"
                f" shape, the first is {odd[0]}. Get the model again, or save it with save_pretrained."
            )
        if self.quantized_as is not None:
            differentiable_everywhere(model)
        return model.eval()

    def size(self, model_class: Any = AutoModelForCausalLM) -> int:
        """Bytes of the weights in memory, computed from the model's configuration, without loading them.

        Raises:
            ConfigurationError: If there is no such model.
        """
        return self.size_of(self.skeleton(model_class))

    def skeleton(self, model_class: Any = AutoModelForCausalLM) -> Any:
        """The model with shapes and types but no weights, unquantised, on torch's meta device.

        Raises:
            ConfigurationError: If there is no such model.
        """
        config = self.load_config()
        saved = config.dtype or type_in_files(Path(self.place)) or torch.float32
        dtype = saved if self.dtype == "auto" else getattr(torch, self.dtype)
        config.dtype = dtype  # where older transformers look, for what is inside a classifier
        with self._telling("a model"), torch.device("meta"):
            model = model_class.from_config(config, dtype=dtype, trust_remote_code=self.trust_remote_code)
        model.tie_weights()  # without weights transformers 5.0 does not
        return model

    def size_of(self, model: Any) -> int:
        """Bytes of the weights in memory, quantised as they will be.

        Args:
            model: The skeleton.
        """
        if how_saved(model.config) is not None:  # transformers leaves it so, whatever `quantization` asks for
            here = Path(self.place).is_dir()
            return size_in_files(Path(self.place), model) if here else size_by_bits(model)
        tensors = [*model.parameters(), *model.buffers()]
        whole = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if self.quantization is None:
            return int(whole)
        head = model.get_output_embeddings() or getattr(model, "score", None)  # bitsandbytes leaves it as it is
        linear = [module.weight for module in model.modules()
                  if isinstance(module, torch.nn.Linear) and module is not head]  # fmt: skip
        saved = sum(weight.numel() * (weight.element_size() - _QUANTIZED_BYTES[self.quantization]) for weight in linear)
        return int(whole - saved)

    def check_tensors(self, model_class: Any = AutoModelForCausalLM) -> None:
        """See whether the files in a folder hold the tensors that its configuration describes; none is read.

        Raises:
            ConfigurationError: If one is missing, or of another shape.
        """
        if Path(self.place).is_dir() and self.quantized_as is None:
            self.load(model_class, torch.device("meta"))

    @property
    def quantized_as(self) -> str | None:
        """How the weights are quantised in memory, as they were saved or as they will be; None where they are not."""
        return how_saved(self.load_config()) or self.quantization

    def check_language_model(self) -> None:
        """See whether the weights are those of a causal language model, before any is loaded.

        Raises:
            ConfigurationError: If they are another model's (``laser_pl.models.causality``), or not there.
        """
        reason = why_not_causal(self.load_config())
        if reason is not None:
            raise ConfigurationError(
                f"'{self.name}' is no causal language model but {reason}. Name a model that writes, such as one whose"
                " config.json has an architecture that ends in ForCausalLM."
            )

    def load_config(self) -> Any:
        """The model's configuration, without its weights."""
        self._refuse_missing_folder()
        self._refuse_unsound_files()
        with self._telling("a model"):
            config = AutoConfig.from_pretrained(self.place, trust_remote_code=self.trust_remote_code)
        self._refuse_kernels(config)
        return config

    def load_generation_config(self) -> Any:
        """How the model is said to be sampled, and what ends it, without its weights."""
        self._refuse_missing_folder()
        with self._telling("a generation config"), suppress(OSError):
            return GenerationConfig.from_pretrained(self.place)
        return GenerationConfig.from_model_config(self.load_config())  # as transformers' models do

    def load_tokenizer(self, padding_side: Literal["left", "right"]) -> Any:
        """The tokenizer that lies beside the weights.

        Raises:
            ConfigurationError: If there is none.
        """
        self._refuse_missing_folder()
        with self._telling("a tokenizer"):
            return AutoTokenizer.from_pretrained(
                self.place, padding_side=padding_side, trust_remote_code=self.trust_remote_code
            )

    def load_policy_tokenizer(self, pad_token: str | None) -> Any:
        """The same for a model that writes: padding on the left.

        Args:
            pad_token: Which token pads, where the tokenizer names none.

        Raises:
            ConfigurationError: If there is no tokenizer, or none that can pad.
        """
        tokenizer = self.load_tokenizer(padding_side="left")
        if pad_token is not None:
            if pad_token not in tokenizer.get_vocab():
                raise ConfigurationError(
                    f"model.pad_token is {pad_token!r}, which is no token of '{self.name}'. Set it to one of its"
                    f" tokens, for example its end token {tokenizer.eos_token!r}."
                )
            tokenizer.pad_token = pad_token
        if tokenizer.pad_token_id is None:
            raise ConfigurationError(
                f"The tokenizer of '{self.name}' has no pad token. Set model.pad_token to one of its tokens,"
                f" for example its end token {tokenizer.eos_token!r}."
            )
        return tokenizer

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Say in one sentence what could not be loaded, whatever it is that a broken file makes transformers raise."""
        try:
            yield
        except (MemoryError, RuntimeError):  # the device's, which may pass
            raise
        except Exception as error:
            raise ConfigurationError(f"Cannot load {what} from '{self.name}': {_first_sentence(error)}.") from error

    def _refuse_missing_folder(self) -> None:
        # A hub's names have one slash at most.
        if (self.name.count("/") > 1 or self.name.startswith((".", "~"))) and not Path(self.place).is_dir():
            where = "" if Path(self.name).is_absolute() else f" in {Path.cwd()}"
            advice = perhaps(closest_path(Path(self.name)), "Check the name of the weights.")
            raise ConfigurationError(f"There is no folder '{self.name}'{where}.{advice}")

    def _refuse_unsound_files(self) -> None:
        """Adapters alone, pickles, and files that are cut off; recognised by their heads, before a run begins."""
        if not Path(self.place).is_dir():
            return
        if (Path(self.place) / "adapter_config.json").is_file() and not (Path(self.place) / "config.json").is_file():
            raise ConfigurationError(
                f"'{self.name}' is a PEFT adapter without the model it was made for. Merge the two by PEFT's"
                " merge_and_unload and name the folder they are saved to; a reward model's score head must be one of"
                " the adapter's modules_to_save, or its base's."
            )
        sound = sorted(Path(self.place).glob("*.safetensors"))
        pickles = sorted(path.name for path in Path(self.place).glob("*.bin"))
        if pickles and not sound:
            raise ConfigurationError(
                f"'{self.name}' has no .safetensors file, only {', '.join(pickles)}: a pickle, which could run code and"
                " is not loaded. Save the model again with save_pretrained."
            )
        for path in sound:
            try:
                with safe_open(path, "pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise ConfigurationError(
                    f"'{path}' is cut off, or no safetensors file ({_first_sentence(error)}). Get the model again."
                ) from None

    def _refuse_kernels(self, config: Any) -> None:
        """Attention that a hub's kernel would compute, which is compiled code; a configuration's parts may name one."""
        parts = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", {}))]
        asked = [getattr(part, name, None) for part in parts
                 for name in ("_attn_implementation", "_experts_implementation")]  # fmt: skip
        for kernel in [self.attention, *asked]:
            if "/" in str(kernel) and not self.trust_remote_code:
                raise ConfigurationError(
                    f"'{self.name}' asks for the kernel '{kernel}' of a hub to compute its attention: that is code, and"
                    " is not loaded. Take attn_implementation out of its config.json; weights.attention takes eager,"
                    " sdpa or flash_attention_2."
                )

    def _bitsandbytes(self) -> BitsAndBytesConfig:
        if self.quantization == "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        compute = torch.bfloat16 if self.dtype == "auto" else getattr(torch, self.dtype)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )


@dataclass
class Lora:
    """The low-rank adapter that is trained; the base stays frozen. Defaults are the paper's.

    Attributes:
        rank: Rank of the update.
        alpha: The update is scaled by ``alpha / rank``.
        dropout: Dropout on the adapter's input while training. The base's own dropout, router noise and the like are
            always off. Above 0 the first loss of an iteration is not exactly ln 2, since the reference is computed
            without dropout.
        targets: Linear layers to adapt, or ``all-linear``. Those that no text goes through, in a tower for images say,
            are left out.
        start: Folder of an adapter to go on from; null: a fresh one. It is one like ``runs/<name>/adapter``, in PEFT's
            format, with the same rank, alpha and targets.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.1
    targets: Sequence[str] | str = ("q_proj", "v_proj")
    start: str | None = None

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and 0 <= self.dropout < 1):
            raise ConfigurationError(
                f"model.lora.alpha must be > 0 and model.lora.dropout in [0, 1), got {self.alpha} and {self.dropout}."
            )
        if self.start is not None:
            self.start = str(absolute(self.start))

    def wrap(self, base: Any, gradient_checkpointing: bool = False) -> Any:  # a PeftModel
        """Freeze ``base`` and put an adapter on it. The adapter's weights are float32, wider if the base is.

        Raises:
            ConfigurationError: If ``targets`` names no layer of the model, a number is out of range, or ``start`` is no
                such adapter.
        """
        # Here, since with what it imports it takes a second, which nothing but training needs.
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

        if getattr(base, "is_quantized", False):
            base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
            for module in base.modules():
                # On CPUs with AVX512-BF16, bitsandbytes repacks a 4-bit layer for good when it is first evaluated, and
                # the packed kernel has no backward.
                if hasattr(module, "support_avx512bf16_for_cpu"):
                    module.support_avx512bf16_for_cpu = False
        if gradient_checkpointing:
            recompute_layers(base)
        excluded = self.untrained(base)
        try:
            config = LoraConfig(
                r=self.rank,
                lora_alpha=self.alpha,
                lora_dropout=self.dropout,
                target_modules=self.targets if isinstance(self.targets, str) else list(self.targets),
                exclude_modules=excluded,
                task_type="CAUSAL_LM",
            )
            model = get_peft_model(base, config)
        except ValueError as error:
            raise ConfigurationError(f"model.lora: {_first_sentence(error)}.") from error
        if self.start is not None:
            load_adapter(model, self.start, ADVICE_ON_START)
        train_adapter(model)
        return model

    def untrained(self, base: Any) -> str | None:
        """A pattern of the targets that no text goes through, and which get no adapter; None if there are none.

        Args:
            base: The base, or its skeleton.

        Raises:
            ConfigurationError: If ``targets`` names no layer of the model, or one that no text goes through.
        """
        if isinstance(self.targets, str):
            _refuse_pattern(self.targets)
        return untrained_targets(base, self.targets)


def _refuse_pattern(targets: str) -> None:
    try:
        re.compile(targets)
    except re.error as error:
        raise ConfigurationError(
            f"model.lora.targets {targets!r} is no regular expression: {error}. Give a list of names, or all-linear."
        ) from error


def _first_sentence(error: Exception) -> str:
    """The useful part of transformers' long messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
