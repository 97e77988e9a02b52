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
from laser_pl.reading.padding import pad_right
from laser_pl.rewards.local import LocalModel
from laser_pl.rewards.text import cut_text, tokenize


class SequenceClassifier(LocalModel):
    """Scores a response by a sequence classifier, any ``AutoModelForSequenceClassification``.

    Args:
        weights: The model.
        head_weights: How much each of its outputs counts; null for a model with one output. With ``[-1, 1]`` it is the
            log-odds of the second class out of two.
        **reading: How texts are read: ``chat_template``, ``max_length``, ``truncation`` and ``max_tokens_per_batch`` of
            ``LocalModel``.
    """

    model_class = AutoModelForSequenceClassification

    def __init__(
        self,
        weights: Weights,
        head_weights: list[float] | None = None,
        **reading: Any,
    ) -> None:
        super().__init__(weights, **reading)
        self.head_weights = head_weights

    def check(self) -> None:
        """See whether the weights are a classifier's, with as many outputs as head weights, and a tokenizer to use.

        Raises:
            ConfigurationError: If they are not, or not there.
        """
        self._check_outputs()
        self.check_tokenizer()

    def _check_outputs(self) -> None:
        config = self.weights.load_config()
        architectures = config.architectures or []
        if not any(name.endswith("ForSequenceClassification") for name in architectures):
            raise ConfigurationError(
                f"'{self.weights.name}' is no sequence classifier but {', '.join(architectures) or 'of no named kind'}."
                " Use laser_pl.rewards.Likelihood for a language model, or name a classifier."
            )
        heads = 1 if self.head_weights is None else len(self.head_weights)
        if config.num_labels != heads:
            raise ConfigurationError(
                f"'{self.weights.name}' has {config.num_labels} outputs, and head_weights says how much each of"
                f" {heads} counts. Set head_weights to a list of {config.num_labels} numbers."
            )

    def load_model(self, device: torch.device) -> Any:
        """The classifier; transformers would put a random head on anything else, and only warn."""
        self._check_outputs()
        return super().load_model(device)

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """The weighted sum of the classifier's outputs for each response. Shape ``(B, n)``, float32 or wider."""
        ids: list[list[int]] = []
        for prompt, row in zip(prompts, responses, strict=True):
            head, tails = tokenize(self._tokenizer, prompt, row, self.reads_chats)
            bos = self._tokenizer.bos_token_id
            ids += [cut_text([*head, *tail], self.max_length, self.truncation, bos) for tail in tails]

        def forward(group: list[int]) -> Tensor:
            rows = [ids[i] for i in group]
            tokens, mask = pad_right(rows, self._unused_id(rows), self._model.device)
            logits: Tensor = self._model(input_ids=tokens, attention_mask=mask).logits  # (R, heads)
            if self.head_weights is None:
                return logits[:, 0]
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            return logits @ logits.new_tensor(self.head_weights)

        return self.batches.run([(len(row),) for row in ids], forward).view(len(prompts), -1)

    def _unused_id(self, rows: Sequence[Sequence[int]]) -> int:
        """Make an id that ends no row the padding.

        transformers pools the last token that is not padding. With the tokenizer's own pad token, which is often EOS
        again, that would be the token before EOS.
        """
        used = {row[-1] for row in rows}
        config = self._model.config.get_text_config()
        config.pad_token_id = next(id_ for id_ in range(config.vocab_size) if id_ not in used)
        return int(config.pad_token_id)
