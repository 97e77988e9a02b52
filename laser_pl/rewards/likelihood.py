"""The likelihood under another language model as reward: the paper's kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.logprobs.packed import shared_logprobs, why_not_shared
from laser_pl.logprobs.padded import response_logprobs
from laser_pl.logprobs.padding import pad_left, pad_right
from laser_pl.models.language_model import Weights
from laser_pl.rewards.local import LocalModel
from laser_pl.rewards.text import continuations, cut_parts


class Likelihood(LocalModel):
    r"""Scores a response by its log-likelihood under a causal language model, in nats.

    It is :math:`\log p(y \mid x)` of the response and the token that ends it. Neither the prompt is counted nor what a
    chat template writes before and behind a response, see ``laser_pl.rewards.turns``.

    Args:
        weights: The model.
        reduction: ``mean`` over the response's tokens (the paper's), or ``sum``.
        **reading: How texts are read: ``chat_template``, ``max_length``, ``truncation`` and ``max_tokens_per_batch`` of
            ``LocalModel``.
    """

    def __init__(
        self,
        weights: Weights,
        reduction: Literal["mean", "sum"] = "mean",
        **reading: Any,
    ) -> None:
        super().__init__(weights, **reading)
        self.reduction = reduction

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """Nats per response token, or per response. Shape ``(B, n)``, float32 or wider."""
        parts = self.read(prompts, responses)

        def forward(group: list[int]) -> Tensor:
            sums, tokens = self.logprobs(self._model, [parts[i] for i in group])
            return sums / tokens if self.reduction == "mean" else sums

        return self.batches.run([(len(head), len(tail)) for head, tail in parts], forward).view(len(prompts), -1)

    def inputs(self, prompt: Prompt, responses: Sequence[str]) -> list[list[int]]:
        """Token ids of prompt and response together."""
        return [[*head, *tail] for head, tail in self._parts(prompt, responses)]

    def _parts(self, prompt: Prompt, responses: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        with self.reading((prompt.prompt, *responses)):
            return continuations(self._tokenizer, prompt, responses, self.reads_chats)

    def read(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[tuple[list[int], list[int]]]:
        """Token ids of prompt and response, for every response."""
        bos = self._tokenizer.bos_token_id
        return [
            cut_parts(head, tail, self.longest, self.truncation, bos)
            for prompt, row in zip(prompts, responses, strict=True)
            for head, tail in self._parts(prompt, row)
        ]

    def logprobs(self, model: Any, parts: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
        """Log-probability in nats of each response, and how many tokens it has. Shapes ``(R,)``.

        A prompt is read once for all its responses, where the model allows that.
        """
        heads = {tuple(head): None for head, _ in parts}
        place = {head: row for row, head in enumerate(heads)}
        prompt = torch.tensor([place[tuple(head)] for head, _ in parts], device=model.device)  # (R,)
        head, head_mask = pad_left([list(head) for head in heads], self.pad_id, model.device)
        tail, tail_mask = pad_right([tail for _, tail in parts], self.pad_id, model.device)
        if why_not_shared(model) is None:
            sums = shared_logprobs(model, head, head_mask, prompt, tail, tail_mask)
        else:
            sums = response_logprobs(model, head[prompt], head_mask[prompt], tail, tail_mask)
        return sums, tail_mask.sum(-1)
