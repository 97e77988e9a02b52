"""Language models that are asked for their opinion: what pointwise and pairwise judges share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.data.behind import shared_start
from laser_pl.data.prompts import prompt_ids
from laser_pl.data.templates import SandboxedText, chat_text, content_of, messages_of
from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.company import with_like_lengths
from laser_pl.logprobs.manner import manner_of
from laser_pl.logprobs.padding import pad_right
from laser_pl.models.language_model import Weights
from laser_pl.rewards.local import LocalModel
from laser_pl.rewards.text import continuations, cut_text


class Judge(LocalModel):
    """Fills a template and reads off one forward how likely each of the possible answers comes next.

    Where the tokenizer has a chat template, the filled one is sent as the user's turn.

    Args:
        weights: The model.
        template: A Jinja template, in Jinja's sandbox.
        answers: What each answer is worth; every answer must be one token of the model, where it stands.
        **reading: How texts are read: ``chat_template``, ``max_length``, ``truncation`` and ``max_tokens_per_batch`` of
            ``LocalModel``.
    """

    def __init__(
        self,
        weights: Weights,
        template: str,
        answers: Mapping[str, float],
        **reading: Any,
    ) -> None:
        super().__init__(weights, **reading)
        if len(answers) < 2:
            raise ConfigurationError(f"A judge needs two answers or more, got {list(answers)}. Set them in its config.")
        self.template = SandboxedText(template, f"The template of {type(self).__name__}")
        self.answers = dict(answers)
        self._answer_ids: list[int] = []

    def load_tokenizer(self) -> Any:
        """The tokenizer, which must have every answer as one token.

        Raises:
            ConfigurationError: If it has not.
        """
        tokenizer = super().load_tokenizer()
        found = dict(zip(self.answers, self._read_answers(tokenizer), strict=True))
        for answer, ids in found.items():
            if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
                raise ConfigurationError(
                    f"The answer {answer!r} of {type(self).__name__} must be one token of '{self.weights.name}', and is"
                    f" {tokenizer.convert_ids_to_tokens(ids)}. Choose other answers; a space in front may matter."
                )
        self._answer_ids = [ids[0] for ids in found.values()]
        if len(set(self._answer_ids)) < len(found):
            raise ConfigurationError(
                f"Two answers of {type(self).__name__} are the same token of '{self.weights.name}', among"
                f" {', '.join(found)}. Choose other answers."
            )
        return tokenizer

    def _read_answers(self, tokenizer: Any) -> list[list[int]]:
        """Token ids of each answer: behind the chat template where there is one, else alone."""
        if self.chat_template is False or not tokenizer.chat_template:
            return [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in self.answers]
        # Tokenizers of the Llama-2 and Mistral kinds put a space before a text alone, and none behind a line break.
        turns = [ids for _, ids in continuations(tokenizer, Prompt("", "?", ""), list(self.answers), True)]
        end = min(shared_start(turns[0][::-1], ids[::-1]) for ids in turns[1:])  # what closes every turn
        end = min(end, *(len(ids) - 1 for ids in turns))
        return [ids[: len(ids) - end] for ids in turns]

    def fill(self, prompt: Prompt, **values: str) -> str:
        """The template with a prompt's columns and ``values``."""
        return filled(self.template, prompt, **values)

    @torch.no_grad()
    def expected_worth(self, texts: Sequence[str]) -> Tensor:
        """What the answer to each text is worth on average, by the model's probabilities of the answers.

        The probabilities are those of the answers' tokens alone; what else the model could say does not count.

        Returns:
            Shape ``(R,)``, float32 or wider.
        """
        bos = self._tokenizer.bos_token_id
        ids = [cut_text(self._ids(text), self.longest, self.truncation, bos) for text in texts]

        manner = manner_of(self._model)

        def forward(group: list[int]) -> Tensor:
            tokens, mask = pad_right([ids[i] for i in group], self.pad_id, self._model.device)
            lengths = mask.sum(-1)

            def worth(rows: Tensor) -> Tensor:
                width = int(lengths[rows].max())
                hidden, head = manner.read(self._model, tokens[rows, :width], mask[rows, :width])
                last = hidden[torch.arange(len(rows), device=rows.device), lengths[rows] - 1]
                logits = head.logits(last)[:, self._answer_ids]  # (r, answers)
                logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
                return logits.softmax(-1) @ logits.new_tensor(list(self.answers.values()))

            return with_like_lengths(self._model, lengths, worth)

        return self.batches.run([(len(row),) for row in ids], forward)

    @abstractmethod
    def texts(self, prompt: Prompt, responses: Sequence[str]) -> list[str]:
        """The template filled for all that has to be asked about a prompt's responses."""

    def inputs(self, prompt: Prompt, responses: Sequence[str]) -> list[list[int]]:
        """Token ids of each question."""
        return [self._ids(text) for text in self.texts(prompt, responses)]

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """See whether the template can be filled from every prompt's row, too."""
        for prompt in prompts:
            self.texts(prompt, ["", ""])
        super().check_texts(prompts, characters)

    def _ids(self, text: str) -> list[int]:
        with self.reading(text):
            if self.reads_chats:
                text = chat_text(self._tokenizer, messages_of(text), add_generation_prompt=True)
            return prompt_ids(text, self._tokenizer, special_tokens=not self.reads_chats)


def filled(template: SandboxedText, prompt: Prompt, **values: str) -> str:
    """A judge's template with a prompt's columns and ``values``."""
    known = {"prompt": content_of(prompt.prompt), "messages": messages_of(prompt.prompt), "answer": prompt.answer}
    return template.fill({**prompt.columns, **known, **values})
