"""The likelihood under another language model as reward: the paper's kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.language_model import Weights
from laser_pl.logprobs import response_logprobs
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.text import batches_by_tokens, pad_right, tokenize


class Likelihood(RewardModel):
    r"""Scores a response by :math:`\log p(y \mid x)` under a causal language model; prompt tokens are never counted.

    Args:
        weights: The model.
        reduction: ``mean`` over the response's tokens (the paper's), or ``sum``.
        chat_template: Whether its inputs go through its tokenizer's chat template; null does so if it has one.
        max_length: Longest input in tokens; longer ones lose the prompt's oldest tokens.
        max_tokens_per_batch: Bound on a forward's tokens, padding included.
    """

    def __init__(
        self,
        weights: Weights,
        reduction: Literal["mean", "sum"] = "mean",
        chat_template: bool | None = None,
        max_length: int = 2048,
        max_tokens_per_batch: int = 16384,
    ) -> None:
        self.weights = weights
        self.reduction = reduction
        self.chat_template = chat_template
        self.max_length = max_length
        self.max_tokens_per_batch = max_tokens_per_batch
        self._model: Any = None
        self._tokenizer: Any = None

    def check(self) -> None:
        """See whether the weights are a language model's.

        Raises:
            ConfigurationError: If they are not, or not there.
        """
        self.weights.check_language_model()

    def load(self, device: torch.device) -> None:
        """Load model and tokenizer."""
        self._tokenizer = self.weights.load_tokenizer(padding_side="right")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if self.chat_template is None:
            self.chat_template = bool(self._tokenizer.chat_template)
        model = self.weights.load()
        self._model = model.to(device) if self.weights.quantization is None else model

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """Nats per response token, or per response. Shape ``(B, n)``, float32 or wider."""
        assert self.chat_template is not None
        heads: list[list[int]] = []
        tails: list[list[int]] = []
        for prompt, row in zip(prompts, responses, strict=True):
            for response in row:
                ids, prompt_length = tokenize(self._tokenizer, prompt, response, self.chat_template)
                tail = ids[prompt_length:][: self.max_length - 1]
                heads.append(ids[:prompt_length][-(self.max_length - len(tail)) :])
                tails.append(tail)
        scores = torch.empty(len(heads), dtype=torch.promote_types(self._model.dtype, torch.float32))
        lengths = [len(head) + len(tail) for head, tail in zip(heads, tails, strict=True)]
        for group in batches_by_tokens(lengths, self.max_tokens_per_batch):
            pad, device = self._tokenizer.pad_token_id, self._model.device
            head, head_mask = (t.flip(-1) for t in pad_right([heads[i][::-1] for i in group], pad, device))
            tail_tokens, tail_mask = pad_right([tails[i] for i in group], pad, device)
            sums = response_logprobs(self._model, head, head_mask, tail_tokens, tail_mask)  # (R,)
            scores[group] = (sums / tail_mask.sum(-1) if self.reduction == "mean" else sums).to(scores)
        return scores.view(len(prompts), -1)
