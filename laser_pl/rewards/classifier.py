"""A sequence classifier as reward model: one forward, one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.language_model import Weights
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.text import batches_by_tokens, pad_right, tokenize


class SequenceClassifier(RewardModel):
    """Any ``AutoModelForSequenceClassification`` with one output.

    Args:
        weights: The model.
        chat_template: Whether its inputs go through its tokenizer's chat template; null does so if it has one.
        max_length: Longest input in tokens; longer ones lose their oldest tokens.
        max_tokens_per_batch: Bound on a forward's tokens, padding included.
    """

    def __init__(
        self,
        weights: Weights,
        chat_template: bool | None = None,
        max_length: int = 2048,
        max_tokens_per_batch: int = 16384,
    ) -> None:
        self.weights = weights
        self.chat_template = chat_template
        self.max_length = max_length
        self.max_tokens_per_batch = max_tokens_per_batch
        self._model: Any = None
        self._tokenizer: Any = None

    def check(self) -> None:
        """See whether the weights are a classifier's with one output.

        Raises:
            ConfigurationError: If they are not, or not there.
        """
        config = self.weights.load_config()
        architectures = config.architectures or []
        if not any(name.endswith("ForSequenceClassification") for name in architectures):
            raise ConfigurationError(
                f"'{self.weights.name}' is no sequence classifier but {', '.join(architectures) or 'of no named kind'}."
                " Use laser_pl.rewards.Likelihood for a language model, or name a classifier."
            )
        if config.num_labels != 1:
            raise ConfigurationError(
                f"'{self.weights.name}' has {config.num_labels} outputs; a reward model here has one."
            )

    def load(self, device: torch.device) -> None:
        """Load model and tokenizer.

        Raises:
            ConfigurationError: If the weights are no classifier with one output.
        """
        self.check()
        model = self.weights.load(AutoModelForSequenceClassification)
        self._tokenizer = self.weights.load_tokenizer(padding_side="right")
        if self.chat_template is None:
            self.chat_template = bool(self._tokenizer.chat_template)
        self._model = model.to(device) if self.weights.quantization is None else model

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """The classifier's output for each response. Shape ``(B, n)``, float32 or wider."""
        assert self.chat_template is not None
        ids = [
            tokenize(self._tokenizer, prompt, response, self.chat_template)[0][-self.max_length :]
            for prompt, row in zip(prompts, responses, strict=True)
            for response in row
        ]
        scores = torch.empty(len(ids), dtype=torch.promote_types(self._model.dtype, torch.float32))
        for group in batches_by_tokens([len(row) for row in ids], self.max_tokens_per_batch):
            rows = [ids[i] for i in group]
            tokens, mask = pad_right(rows, self._unused_id(rows), self._model.device)
            logits = self._model(input_ids=tokens, attention_mask=mask).logits  # (R, 1)
            scores[group] = logits[:, 0].to(scores)
        return scores.view(len(prompts), -1)

    def _unused_id(self, rows: Sequence[Sequence[int]]) -> int:
        """Make an id that ends no row the padding.

        transformers pools the last token that is not padding. With the tokenizer's own pad token, which is often EOS
        again, that would be the token before EOS.
        """
        used = {row[-1] for row in rows}
        config = self._model.config.get_text_config()
        config.pad_token_id = next(id_ for id_ in range(config.vocab_size) if id_ not in used)
        return int(config.pad_token_id)
