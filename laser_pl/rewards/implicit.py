"""The reward that a preference-trained model implies: how RewardBench scores DPO models."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.messages.places import absolute
from laser_pl.models.language_model import Weights
from laser_pl.rewards.likelihood import Likelihood
from laser_pl.runtime import progress
from laser_pl.training.adapter import refuse_other_base


class ImplicitReward(Likelihood):
    r"""Scores a response by the reward that a model trained by DPO implies, Rafailov et al. 2023.

    It is :math:`\beta[\log\pi(y|x) - \log\pi_{ref}(y|x)]`, Eq. (5) there; the equation's term that depends on the
    prompt alone is left out, since it changes no preference.

    Args:
        weights: The model that was trained on preferences; with ``adapter``, its base.
        reference: The model it was trained from. Give this or ``adapter``.
        adapter: A folder with a PEFT adapter for ``weights``; switched off, they are the reference. One model in memory
            instead of two. Give this or ``reference``.
        beta: DPO's inverse temperature, 1/nats, > 0.
        **reading: How texts are read: ``chat_template``, ``max_length``, ``truncation`` and ``max_tokens_per_batch`` of
            ``LocalModel``.
    """

    def __init__(
        self,
        weights: Weights,
        reference: Weights | None = None,
        adapter: str | None = None,
        beta: float = 0.1,
        **reading: Any,
    ) -> None:
        super().__init__(weights, reduction="sum", **reading)
        if (reference is None) == (adapter is None):
            raise ConfigurationError("ImplicitReward needs a reference or an adapter, and not both. Set one of them.")
        if not beta > 0:
            raise ConfigurationError(f"beta must be > 0, got {beta}. Set the implicit reward's beta in the config.")
        self.reference = reference
        self.adapter = None if adapter is None else str(absolute(adapter))
        self.beta = beta
        self._reference: Any = None

    def check(self) -> None:
        """See whether both are language models of one vocabulary, or the adapter is there.

        Raises:
            ConfigurationError: If not.
        """
        super().check()
        for file in ("adapter_config.json", "adapter_model.safetensors"):  # an adapter without the latter is a pickle
            if self.adapter is not None and not (Path(self.adapter) / file).is_file():
                raise ConfigurationError(f"There is no {file} in '{self.adapter}'. Name the folder of a PEFT adapter.")
        if self.adapter is not None:
            refuse_other_base(self.weights.skeleton(self.model_class), self.adapter, self.weights.name)
        if self.reference is not None:
            self.reference.check_language_model()
            self.reference.check_tensors(self.model_class)
            sizes = [w.load_config().get_text_config().vocab_size for w in (self.weights, self.reference)]
            if sizes[0] != sizes[1]:
                raise ConfigurationError(
                    f"'{self.weights.name}' has {sizes[0]} tokens and its reference '{self.reference.name}' {sizes[1]}."
                    " Name the model it was trained from."
                )

    def size(self) -> int:
        """Bytes of both models; an adapter adds next to nothing."""
        return super().size() + (0 if self.reference is None else self.reference.size(self.model_class))

    def forwards_per_response(self, n: int) -> float:
        """One of the model, one of the reference."""
        return 2.0

    def load_model(self, device: torch.device) -> Any:
        """The trained model, and the reference beside it or under it."""
        model = super().load_model(device)
        if self.adapter is not None:
            from peft import PeftModel  # here, since it takes a second to import

            return PeftModel.from_pretrained(model, self.adapter).eval()
        assert self.reference is not None
        self._reference = self.reference.load(self.model_class, device)
        return model

    @property
    def models(self) -> list[Any]:
        """The trained model, and the reference where it is another one."""
        return [model for model in (self._model, self._reference) if model is not None]

    @property
    def movable(self) -> bool:
        """Whether both may go from one device to another."""
        return super().movable and (self.reference is None or self.reference.quantized_as is None)

    def unload(self) -> None:
        """Give both up."""
        self._reference = None
        super().unload()

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """Beta times the log-likelihood ratio in nats. Shape ``(B, n)``, float32 or wider."""
        parts = self.read(prompts, responses)

        def forward(group: list[int]) -> Tensor:
            rows = [parts[i] for i in group]
            trained, _ = self.logprobs(self._model, rows)  # (R,)
            progress.advance(len(group))  # half of what it costs
            switched_off = self._model.disable_adapter() if self._reference is None else nullcontext()
            with switched_off:
                reference, _ = self.logprobs(self._model if self._reference is None else self._reference, rows)
            return self.beta * (trained - reference)

        return self.batches.run([(len(head), len(tail)) for head, tail in parts], forward).view(len(prompts), -1)
