"""Who asks reward functions: the run, as far as TRL lets functions see it and log to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from laser_pl.batches import Prompt, RolloutBatch

GIVEN = ("completion_ids", "trainer_state", "log_extra", "log_metric")
"""What a reward function can have beside prompts, completions and columns, by TRL's names."""


class Asker:
    """What a run gives reward functions, and what they logged since it last looked.

    Args:
        encode: The policy's tokens of a text that was not sampled just now.

    Attributes:
        state: How far training is.
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        # Here, since with what it imports it takes a second or two, which nothing but asking needs.
        from transformers import TrainerState

        self.encode = encode
        self.state = TrainerState()
        self._batch: RolloutBatch | None = None
        self._ids: dict[tuple[str, str], list[int]] | None = None  # of its responses, once somebody wants them
        self._told: dict[str, list[float]] = {}

    @classmethod
    def with_tokenizer(cls, tokenizer: Any) -> Asker:
        """One that reads texts as the policy's tokenizer does, which sets nothing of its own around them."""
        return cls(lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]))

    def shows(self, batch: RolloutBatch) -> None:
        """Know a batch whose responses were sampled just now."""
        self._batch, self._ids = batch, None

    @property
    def _sampled(self) -> dict[tuple[str, str], list[int]]:
        """Tokens of the batch's responses as they were sampled, the end of text included, by prompt and text."""
        if self._ids is None:
            self._ids = {} if self._batch is None else _ids_of(self._batch)
        return self._ids

    def arguments(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> dict[str, Any]:
        """``GIVEN``, for responses to as many prompts."""
        sampled = self._sampled
        ids = [sampled.get((prompt.id, text)) or self.encode(text) for prompt, text in zip(prompts, texts, strict=True)]
        return {
            "completion_ids": ids,
            "trainer_state": self.state,
            "log_extra": lambda column, values: None,  # TRL's table of completions; judged.jsonl has columns of its own
            "log_metric": lambda name, value: self._told.setdefault(name, []).append(float(value)),
        }

    def told(self) -> dict[str, list[float]]:
        """What was logged by ``log_metric`` since the last time, by its name."""
        told, self._told = self._told, {}
        return told


def means(told: Iterable[Mapping[str, list[float]]]) -> dict[str, float]:
    """The mean of what was logged, as ``reward/<name>``.

    Args:
        told: In each process, since each asks about responses of its own.

    >>> means([{"length": [1.0, 2.0]}, {"length": [6.0], "rare": [0.0]}])
    {'reward/length': 3.0, 'reward/rare': 0.0}
    """
    together: dict[str, list[float]] = {}
    for one in told:
        for name, values in one.items():
            together.setdefault(name, []).extend(values)
    return {f"reward/{name}": sum(values) / len(values) for name, values in together.items()}


def _ids_of(batch: RolloutBatch) -> dict[tuple[str, str], list[int]]:
    found, mask = batch.responses.tokens.tolist(), batch.responses.mask.tolist()
    return {
        (prompt.id, text): [token for token, real in zip(tokens, kept, strict=True) if real]
        for prompt, *rows in zip(batch.prompts.prompts, batch.responses.texts, found, mask, strict=True)
        for text, tokens, kept in zip(*rows, strict=True)
    }
