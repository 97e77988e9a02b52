"""A reward model whose weights lie in this process: loading, moving, giving back, and forwards of bounded size."""

from __future__ import annotations

import gc
import reprlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from laser_pl.batches import Prompt
from laser_pl.data.templates import chat_text, content_of, messages_of
from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.positions import most_positions
from laser_pl.models.language_model import Weights
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.text import Side
from laser_pl.rewards.token_batches import TokenBatches

_ODD = "\ue000\u00e9\u4e2d\U0001f600"
"""What a tokenizer reads only if it reads everything."""


class LocalModel(RewardModel):
    """What all reward models with weights of their own share.

    Args:
        weights: The model.
        chat_template: Whether its inputs go through its tokenizer's chat template; null does so if it has one.
        max_length: Longest input in tokens, >= 2; never more than a model of absolute positions has.
        truncation: Which end of longer inputs is cut off. For a text, its oldest tokens (``left``) or what comes before
            its last one; for a likelihood, the prompt's oldest tokens (``left``) or the response's end.
        max_tokens_per_batch: Most tokens of a forward, padding included.
    """

    model_class: Any = AutoModelForCausalLM

    def __init__(
        self,
        weights: Weights,
        chat_template: bool | None = None,
        max_length: int = 2048,
        truncation: Side = "left",
        max_tokens_per_batch: int = 16384,
    ) -> None:
        if max_length < 2:
            raise ConfigurationError(f"max_length must be >= 2, got {max_length}. Set it in the reward model's config.")
        self.weights = weights
        self.chat_template = chat_template
        self.max_length = max_length
        self.truncation: Side = truncation
        self.batches = TokenBatches(max_tokens_per_batch)
        self._model: Any = None
        self._tokenizer: Any = None

    def check(self) -> None:
        """See whether the weights are a language model's, and whether their tokenizer can be used.

        Raises:
            ConfigurationError: If they are not, or not there.
        """
        self.weights.check_language_model()
        self.weights.check_tensors(self.model_class)
        self.check_tokenizer()

    def check_tokenizer(self) -> None:
        """See whether the tokenizer can do what it will be asked to, before hours of rollouts were made for it.

        Raises:
            ConfigurationError: If it is not there, has no chat template where it should, or one that is broken.
        """
        tokenizer = self._tokenizer = self.load_tokenizer()
        if self.chat_template and not tokenizer.chat_template:
            raise ConfigurationError(
                f"chat_template is true, but the tokenizer of '{self.weights.name}' has none. Set it to false or null"
                " in the reward model's config."
            )
        if self.reads_chats:
            chat_text(tokenizer, messages_of("?"), add_generation_prompt=True)
        known = self.weights.load_config().get_text_config().vocab_size
        if tokenizer.vocab_size > known:
            raise ConfigurationError(
                f"The tokenizer of '{self.weights.name}' has {tokenizer.vocab_size} tokens and the model {known}. It is"
                " another model's; get the tokenizer that belongs to it."
            )

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """See whether the template takes prompts of every sequence of roles, and the tokenizer every character.

        Raises:
            ConfigurationError: If not, or if the model has no embedding for a token of the template's.
        """
        tokenizer = self._tokenizer = self._tokenizer or self.load_tokenizer()
        sequences: dict[tuple[str, ...], Prompt] = {}
        for prompt in prompts:
            sequences.setdefault(tuple(message["role"] for message in messages_of(prompt.prompt)), prompt)
        reads_all = _reads(tokenizer, _ODD)
        reads_these = reads_all or _reads(tokenizer, [content_of(prompt.prompt) for prompt in prompts])
        known = self.weights.load_config().get_text_config().vocab_size
        for prompt in sequences.values() if reads_these else prompts:
            largest = max(max(ids) for ids in self.inputs(prompt, [content_of(prompt.prompt)[:1]] * 2))
            if largest >= known:
                raise ConfigurationError(
                    f"The token {tokenizer.convert_ids_to_tokens(largest)!r} of the tokenizer of '{self.weights.name}'"
                    f" has number {largest}, and the model knows {known} tokens. Get the model again, or set"
                    " chat_template: false in its config."
                )
        for character in () if reads_all else characters():
            if not _reads(tokenizer, character):
                raise ConfigurationError(
                    f"The tokenizer of '{self.weights.name}' cannot read {character!r}, which the policy can write."
                    " Give it an unk_token, or take another reward model."
                )

    @abstractmethod
    def inputs(self, prompt: Prompt, responses: Sequence[str]) -> list[list[int]]:
        """Token ids of what the model would read to score the responses, however long.

        Raises:
            ConfigurationError: If the tokenizer cannot read them, or the template refuses them.
        """

    def size(self) -> int:
        """Bytes of the weights, from the model's configuration."""
        return self.weights.size(self.model_class)

    def load(self, device: torch.device) -> None:
        """Load model and tokenizer, or bring the model back from the host's memory.

        Raises:
            ConfigurationError: If they are not there.
        """
        if self._model is None:
            self._tokenizer = self._tokenizer or self.load_tokenizer()
            self._model = self.load_model(device)
        elif self.movable:
            for model in self.models:
                model.to(device)

    def load_tokenizer(self) -> Any:
        """The model's tokenizer. Which token pads is of no account here: it is masked everywhere."""
        return self.weights.load_tokenizer(padding_side="right")

    def load_model(self, device: torch.device) -> Any:
        """The model on the device."""
        return self.weights.load(self.model_class, device)

    def offload(self) -> None:
        """Move the weights to the host's memory; quantised ones cannot be moved and are given up."""
        if self.movable:
            for model in self.models:
                model.to("cpu")
        else:
            self.unload()

    def unload(self) -> None:
        """Give the weights up; they still lie where they were loaded from."""
        self._model = None
        if not self.movable:
            gc.collect()  # bitsandbytes' 4-bit layers hold themselves in cycles; a collection takes half a second

    @property
    def models(self) -> list[Any]:
        """What is in memory now."""
        return [] if self._model is None else [self._model]

    @property
    def movable(self) -> bool:
        """Whether the weights may go from one device to another; quantised ones may not."""
        return self.weights.quantized_as is None

    @property
    def longest(self) -> int:
        """Tokens of the longest input: ``max_length``, or as many places as the model knows."""
        places = [most_positions(model) for model in self.models]
        return min([self.max_length, *(places for places in places if places is not None)])

    @property
    def reads_chats(self) -> bool:
        """Whether inputs go through the chat template; known once the tokenizer is loaded."""
        return bool(self._tokenizer.chat_template) if self.chat_template is None else self.chat_template

    @contextmanager
    def reading(self, what: object) -> Iterator[None]:
        """A block in which the tokenizer reads something; what goes wrong there is a mistake in the set-up, and stays.

        Args:
            what: What it reads, for the message.

        Raises:
            ConfigurationError: If it cannot read it, or the template refuses it.
        """
        try:
            yield
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error} Set chat_template: false in the reward model's config, or leave such prompts out."
            ) from error
        except Exception as error:  # of a tokenizer that has no token for what it does not know
            raise ConfigurationError(
                f"The tokenizer of '{self.weights.name}' cannot read {reprlib.repr(what)}: {error}. Give it an"
                " unk_token, or take another reward model."
            ) from error

    @property
    def pad_id(self) -> int:
        """Any id; what it pads is masked."""
        return int(self._tokenizer.pad_token_id or 0)


def _reads(tokenizer: Any, text: str | list[str]) -> bool:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    try:
        if fast is None:
            tokenizer(text, verbose=False)
        else:  # ten times as fast as with lists of numbers made of what it reads
            fast.encode_batch_fast([text] if isinstance(text, str) else text)
    except Exception:  # a tokenizer that has no token for what it does not know raises no more than that
        return False
    return True
