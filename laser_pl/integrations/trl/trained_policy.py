"""The model that TRL trains, as far as the selection asks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor

from laser_pl.batches import PromptBatch
from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.logprobs.modes import evaluating
from laser_pl.logprobs.text_decoder import without_wrapper

_BUDGET = 8192
"""Tokens in one forward."""


class TrainedPolicy:
    """Reads prompts and responses with the model as it is now, without dropout and without gradients.

    Args:
        model: The trainer's, not wrapped for several processes.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def trains(self) -> bool:
        """Whether TRL samples to train, not to evaluate; it decides by the same."""
        return bool(self.model.training)

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        found: torch.device = next(self.model.parameters()).device
        return found

    def refuse_sharded(self) -> None:
        """See that every process holds the whole model, so that each can read for itself.

        Raises:
            ConfigurationError: If not.
        """
        sharded = any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in self.model.parameters())
        if sharded or any(isinstance(module, FullyShardedDataParallel) for module in self.model.modules()):
            raise ConfigurationError(
                "The model is sharded, so that no process can read prompts by itself. Give SelectedReward features"
                " of prompts, and a signal that asks the reward models alone: Trusted, Majority or Gap."
            )

    def contexts(self, prompts: PromptBatch) -> Tensor:
        """Hidden state of the last token of each prompt, after the final norm.

        Returns:
            On the CPU. Shape ``(B, hidden size)``, float32.
        """
        if len(prompts) == 0:  # which a process has where there are more of them than prompts
            return torch.zeros(0, self.model.config.get_text_config().hidden_size)
        with self._as_made():
            return LogprobModel(self.model, _BUDGET, share=False).contexts(prompts.to(self.device)).cpu()

    @contextmanager
    def _as_made(self) -> Iterator[None]:
        """Evaluate by the model's own code, in the type of its weights.

        With ``bf16=True`` the trainer has put another ``forward`` over it, which computes in bfloat16.
        """
        base = without_wrapper(self.model)
        over = base.__dict__.pop("forward", None)
        try:
            with evaluating(self.model):
                yield
        finally:
            if over is not None:
                base.__dict__["forward"] = over

    def logprobs(self, responses: ResponseBatch) -> Tensor:
        """Log-probability of each response in nats, at temperature 1. Shape ``(R,)``."""
        with self._as_made():
            return LogprobModel(self.model, _BUDGET).all_logprobs(responses)

    def start_logprobs(self, responses: ResponseBatch) -> Tensor:
        """The same under the frozen model that training started from: without its adapter."""
        with self.model.disable_adapter():
            return self.logprobs(responses)

    @property
    def knows_its_start(self) -> bool:
        """Whether it is an adapter that is trained."""
        return hasattr(self.model, "disable_adapter")
