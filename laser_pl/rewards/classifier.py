"""A sequence classifier as reward model: one forward, one number."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.company import Turn, apart, forget_longer_texts
from laser_pl.logprobs.padding import pad_right
from laser_pl.logprobs.trial_texts import TrialTexts, unblurred
from laser_pl.models.language_model import Weights
from laser_pl.rewards.local import LocalModel
from laser_pl.rewards.text import Text, kept_places, whole_texts


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
        self._pads: int | None = None
        self._takes_types = False
        self._hides_padding: bool | None = None

    def check(self) -> None:
        """See whether the weights are a classifier's, with as many outputs as head weights, and a tokenizer to use.

        Raises:
            ConfigurationError: If they are not, or not there.
        """
        self._check_outputs()
        self.weights.check_tensors(self.model_class)
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
                f" {heads} counts. Set head_weights to a list of {config.num_labels} numbers, how much"
                f" {', '.join(str(config.id2label[output]) for output in sorted(config.id2label))} count."
            )

    def load_model(self, device: torch.device) -> Any:
        """The classifier; transformers would put a random head on anything else, and only warn."""
        self._check_outputs()
        model = super().load_model(device)
        config = model.config.get_text_config()
        self._pads = config.pad_token_id
        known = inspect.signature(model.forward).parameters
        self._takes_types = "token_type_ids" in known and getattr(config, "type_vocab_size", 2) > 1
        return model

    def load(self, device: torch.device) -> None:
        """Load it, and the first time see whether it hides padding.

        Raises:
            ConfigurationError: If it is not there.
        """
        super().load(device)
        if self._hides_padding is None:
            self._hides_padding = self._finds_padding_hidden()

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """The weighted sum of the classifier's outputs for each response. Shape ``(B, n)``, float32 or wider."""
        texts = [
            self._cut(text) for prompt, row in zip(prompts, responses, strict=True) for text in self._texts(prompt, row)
        ]

        def forward(group: list[int]) -> Tensor:
            rows = [texts[i] for i in group]
            return apart(
                self._companies(rows),
                lambda own: self._numbers([rows[i] for i in own.tolist()]),
                self._model.device,
            )

        return self.batches.run([(len(text.ids),) for text in texts], forward).view(len(prompts), -1)

    def _numbers(self, texts: Sequence[Text]) -> Tensor:
        """The number for each of some texts that are read together. Shape ``(R,)``."""
        rows = [text.ids for text in texts]
        tokens, mask = pad_right(rows, self._padding(rows), self._model.device)
        types = [text.types for text in texts]
        known = {"token_type_ids": pad_right(types, 0, tokens.device)[0]} if self._takes_types and types[0] else {}
        forget_longer_texts(self._model)
        logits: Tensor = self._model(input_ids=tokens, attention_mask=mask, **known).logits  # (R, heads)
        if self.head_weights is None:
            return logits[:, 0]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits @ logits.new_tensor(self.head_weights)

    def _companies(self, texts: Sequence[Text]) -> list[tuple[int, int, int]]:
        """What texts have in common that may be read together: equal lengths, where padding would change a score."""
        config = self._model.config.get_text_config()
        turn = Turn.of(config)
        # Encoders with a decoder are read at their last EOS, and transformers wants as many of them in every text.
        end = config.eos_token_id if getattr(config, "is_encoder_decoder", False) else None
        return [
            (
                0 if turn is None else turn.company(len(text.ids)),
                0 if self._hides_padding else len(text.ids),
                0 if end is None else text.ids.count(end),
            )
            for text in texts
        ]

    @torch.no_grad()
    def _finds_padding_hidden(self) -> bool:
        """Whether padding changes no score, found by reading two short texts alone and together.

        Some read convolutions over it (ConvBERT), mix it in (FNet, Nyströmformer) or read the score there (XLNet).
        """
        try:
            with unblurred(self._model):
                trial = TrialTexts.of(self._model)
                end = self._model.config.get_text_config().eos_token_id
                read = [
                    [id_ for id_ in row[mask.bool()].tolist() if id_ != end] + [end] * isinstance(end, int)
                    for row, mask in zip(*trial.whole, strict=True)
                ]
                texts = [Text(ids, [0] * len(ids)) for ids in (min(read, key=len), max(read, key=len))]
                alone = torch.cat([self._numbers([text]) for text in texts])
                return trial.agree(self._numbers(texts), alone)
        except Exception:  # whatever a model of unknown make raises, it means no
            return False

    def inputs(self, prompt: Prompt, responses: Sequence[str]) -> list[list[int]]:
        """Token ids of each whole text."""
        return [text.ids for text in self._texts(prompt, responses)]

    def _texts(self, prompt: Prompt, responses: Sequence[str]) -> list[Text]:
        with self.reading((prompt.prompt, *responses)):
            return whole_texts(self._tokenizer, prompt, responses, self.reads_chats)

    def _cut(self, text: Text) -> Text:
        """What is read of a text; its first token stays if it is one of those that stand before every text."""
        first = text.ids[0] in {self._tokenizer.bos_token_id, self._tokenizer.cls_token_id}
        kept = kept_places(len(text.ids), self.longest, self.truncation, first)
        return Text([text.ids[i] for i in kept], [text.types[i] for i in kept if text.types])

    def _padding(self, rows: Sequence[Sequence[int]]) -> int:
        """The id that pads.

        transformers pools the last token that is not the model's own padding, also where a text ends with it, as with
        EOS for padding: so the classifier was trained. One that knows no padding is read at the last token, and any id
        that ends no row pads.
        """
        config = self._model.config.get_text_config()
        if self._pads is not None and 0 <= self._pads < config.vocab_size:
            return int(self._pads)
        used = {row[-1] for row in rows}
        config.pad_token_id = next(id_ for id_ in range(config.vocab_size) if id_ not in used)
        return int(config.pad_token_id)
