"""What flows between the stages.

Shape letters, used in all docstrings: ``B`` prompts, ``n`` responses per prompt, ``M`` pairs in a batch, ``T`` tokens,
``V`` vocabulary, ``d`` context size, ``K`` arms, ``O`` observations.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

LOSS = "loss"
"""The name of the whole among the parts of a training loss."""

Message = dict[str, str]
"""One turn of a chat: ``{"role": ..., "content": ...}``."""


@dataclass(frozen=True)
class Prompt:
    """One prompt of the data set.

    Attributes:
        id: Unique within the data set.
        prompt: What is asked: a string or a chat's messages.
        text: What the policy reads: ``prompt`` after the policy's template.
        answer: The reference answer, where there is one.
        category: The group it is counted under.
        columns: The remaining columns of its row, for reward functions that ask for them.
        response: What a supervised policy learns to answer.
    """

    id: str
    prompt: str | list[Message]
    text: str
    answer: str | None = None
    category: str = "all"
    columns: Mapping[str, Any] = field(default_factory=dict)
    response: str | None = None

    @property
    def question(self) -> str:
        """What people distinguish it from others by, without what every prompt has: of a chat its last turn."""
        return question_of(self.prompt)


def question_of(prompt: str | list[Message]) -> str:
    """A text, or what a chat's last turn says."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


@dataclass(frozen=True)
class PromptBatch:
    """Prompts as the policy reads them.

    Attributes:
        prompts: The ``B`` prompts.
        tokens: Token ids, padded on the left. Shape ``(B, T)``, int64.
        mask: 1 for a real token. Shape ``(B, T)``, int64.
    """

    prompts: tuple[Prompt, ...]
    tokens: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.tokens.shape != self.mask.shape or len(self.prompts) != len(self.tokens):
            raise ValueError(
                f"PromptBatch of {len(self.prompts)} prompts got tokens {tuple(self.tokens.shape)} and mask"
                f" {tuple(self.mask.shape)}; all must agree."
            )

    def __len__(self) -> int:
        return len(self.prompts)

    def ids(self) -> list[list[int]]:
        """Token ids of each, without what pads."""
        return [tokens[mask.bool()].tolist() for tokens, mask in zip(self.tokens, self.mask, strict=True)]

    def part(self, rows: list[int]) -> PromptBatch:
        """Some of them."""
        return PromptBatch(tuple(self.prompts[row] for row in rows), self.tokens[rows], self.mask[rows])

    def to(self, device: torch.device | str, **kwargs: Any) -> PromptBatch:
        """The same batch on another device."""
        return replace(self, tokens=self.tokens.to(device, **kwargs), mask=self.mask.to(device, **kwargs))


@dataclass(frozen=True)
class Responses:
    """What the policy wrote to each prompt.

    Attributes:
        tokens: Sampled ids including EOS, padded on the right. Shape ``(B, n, T)``, int64.
        mask: 1 for a sampled token. Shape ``(B, n, T)``, int64.
        finished: Whether the response ended, by EOS or a stop string, or was cut at the limit. Shape ``(B, n)``, bool.
        texts: The decoded responses, without special tokens and what they stopped at: ``B`` lists of ``n``.
        logprobs: Log-probability of each under the model that sampled it, in nats, where that is not the policy in this
            process; None where it is. Shape ``(B, n)``.
    """

    tokens: Tensor
    mask: Tensor
    finished: Tensor
    texts: Sequence[Sequence[str]]
    logprobs: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.tokens.shape[:2]
        if self.mask.shape != self.tokens.shape or self.finished.shape != shape or len(self.texts) != shape[0]:
            raise ValueError(
                f"Responses got tokens {tuple(self.tokens.shape)}, mask {tuple(self.mask.shape)}, finished"
                f" {tuple(self.finished.shape)} and {len(self.texts)} lists of texts; all must agree."
            )

    def part(self, rows: list[int]) -> Responses:
        """Those to some prompts."""
        texts = [self.texts[row] for row in rows]
        logprobs = None if self.logprobs is None else self.logprobs[rows]
        return Responses(self.tokens[rows], self.mask[rows], self.finished[rows], texts, logprobs)

    def to(self, device: torch.device | str, **kwargs: Any) -> Responses:
        """The same responses on another device."""
        return replace(
            self,
            tokens=self.tokens.to(device, **kwargs),
            mask=self.mask.to(device, **kwargs),
            finished=self.finished.to(device, **kwargs),
            logprobs=None if self.logprobs is None else self.logprobs.to(device, **kwargs),
        )


@dataclass(frozen=True)
class PairIndices:
    """Which response is preferred to which, per prompt.

    Attributes:
        prompt: Row of the prompt each pair belongs to. Shape ``(M,)``, int64.
        chosen: Response index in ``[0, n)``. Shape ``(M,)``, int64.
        rejected: Response index in ``[0, n)``, never equal to ``chosen``. Shape ``(M,)``, int64.
    """

    prompt: Tensor
    chosen: Tensor
    rejected: Tensor

    def __post_init__(self) -> None:
        if not self.prompt.shape == self.chosen.shape == self.rejected.shape or self.prompt.dim() != 1:
            raise ValueError(
                f"PairIndices needs three vectors of one length, got {tuple(self.prompt.shape)},"
                f" {tuple(self.chosen.shape)} and {tuple(self.rejected.shape)}."
            )
        if bool((self.chosen == self.rejected).any()):
            raise ValueError("PairIndices got a pair that prefers a response to itself.")

    def __len__(self) -> int:
        return len(self.prompt)

    def refuse_beyond(self, prompts: int, n: int) -> None:
        """See that these are pairs of so many prompts with ``n`` responses each.

        Raises:
            ValueError: If not.
        """
        for name, rows, count in (
            ("prompt", self.prompt, prompts),
            ("chosen", self.chosen, n),
            ("rejected", self.rejected, n),
        ):
            if bool(((rows < 0) | (rows >= count)).any()):
                raise ValueError(
                    f"PairIndices of {prompts} prompts with {n} responses each got {name} {rows.tolist()}."
                )

    def of(self, row: int) -> list[tuple[int, int]]:
        """Chosen and rejected of one prompt's pairs."""
        own = self.prompt == row
        return list(zip(self.chosen[own].tolist(), self.rejected[own].tolist(), strict=True))

    def part(self, rows: list[int]) -> PairIndices:
        """Those of some prompts, which are counted anew."""
        own = self.prompt[:, None] == torch.tensor(rows, dtype=torch.long, device=self.prompt.device)  # (M, rows)
        pair, prompt = torch.nonzero(own, as_tuple=True)
        return PairIndices(prompt, self.chosen[pair], self.rejected[pair])

    def to(self, device: torch.device | str) -> PairIndices:
        """The same pairs on another device."""
        return PairIndices(self.prompt.to(device), self.chosen.to(device), self.rejected.to(device))


@dataclass(frozen=True)
class RolloutBatch:
    """Prompts and what the iteration's policy wrote to them, before anybody judged it.

    Attributes:
        prompts: The ``B`` prompts.
        responses: Their ``n`` responses.
        contexts: Hidden state of the last prompt token under the iteration's policy. Shape ``(B, d)``, float32.
        reference_logprobs: Log-probability of each response under the iteration's policy, in nats. Shape ``(B, n)``.
        iteration: The iteration whose policy wrote the responses.
    """

    prompts: PromptBatch
    responses: Responses
    contexts: Tensor
    reference_logprobs: Tensor
    iteration: int

    def __post_init__(self) -> None:
        shape = self.responses.finished.shape
        if shape[0] != len(self.prompts) or len(self.contexts) != shape[0] or self.reference_logprobs.shape != shape:
            raise ValueError(
                f"RolloutBatch of {len(self.prompts)} prompts got responses {tuple(shape)}, contexts"
                f" {tuple(self.contexts.shape)} and reference log-probabilities"
                f" {tuple(self.reference_logprobs.shape)}; all must agree."
            )

    def __len__(self) -> int:
        return len(self.prompts)

    def labelled(
        self, arms: Tensor, scores: Tensor, pairs: PairIndices, accuracy: Tensor | None = None
    ) -> LabelledBatch:
        """The batch with labels, see ``LabelledBatch``; this one stays as it is. No accuracy is NaN everywhere."""
        return LabelledBatch(
            self.prompts,
            self.responses,
            self.contexts,
            self.reference_logprobs,
            self.iteration,
            arms=arms,
            scores=scores,
            pairs=pairs,
            accuracy=torch.full(arms.shape, torch.nan, dtype=torch.float64) if accuracy is None else accuracy,
        )

    def unjudged(self) -> LabelledBatch:
        """The batch with labels that say nothing, for an objective that takes none: no arm, no score, no pair."""
        prompts, n = self.responses.finished.shape
        none = torch.zeros(0, dtype=torch.long, device=self.reference_logprobs.device)
        scores = torch.full((prompts, n), torch.nan, dtype=torch.float64)
        return self.labelled(torch.full((prompts,), -1), scores, PairIndices(none, none, none))

    def part(self, rows: list[int]) -> RolloutBatch:
        """Some of its prompts."""
        return RolloutBatch(
            prompts=self.prompts.part(rows),
            responses=self.responses.part(rows),
            contexts=self.contexts[rows],
            reference_logprobs=self.reference_logprobs[rows],
            iteration=self.iteration,
        )

    def to(self, device: torch.device | str, **kwargs: Any) -> Self:
        """The same batch on another device."""
        return replace(
            self,
            prompts=self.prompts.to(device, **kwargs),
            responses=self.responses.to(device, **kwargs),
            contexts=self.contexts.to(device, **kwargs),
            reference_logprobs=self.reference_logprobs.to(device, **kwargs),
        )


@dataclass(frozen=True)
class LabelledBatch(RolloutBatch):
    """A batch that was judged: all of ``RolloutBatch``, and the labels.

    Attributes:
        prompts: As there.
        responses: As there.
        contexts: As there.
        reference_logprobs: As there.
        iteration: As there.
        arms: The reward model that scored each prompt's responses; -1 is none. On the CPU. Shape ``(B,)``, int64.
        scores: Its scores; NaN is no opinion. On the CPU. Shape ``(B, n)``.
        pairs: The preference pairs made from them, on the batch's device.
        accuracy: How often that reward model puts a right response above a wrong one, as far as it was measured when
            it judged; NaN is unknown. On the CPU. Shape ``(B,)``, float64.
    """

    arms: Tensor
    scores: Tensor
    pairs: PairIndices
    accuracy: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = self.responses.finished.shape
        if not self.arms.shape == self.accuracy.shape == shape[:1] or self.scores.shape != shape:
            raise ValueError(
                f"LabelledBatch of responses {tuple(shape)} got arms {tuple(self.arms.shape)}, scores"
                f" {tuple(self.scores.shape)} and accuracies {tuple(self.accuracy.shape)}; all must agree."
            )
        self.pairs.refuse_beyond(*shape)

    @property
    def preferences(self) -> LabelledBatch:
        """Itself: labels stood in a part of their own before. It goes with the next release."""
        warnings.warn(
            "batch.preferences.arms, .scores and .pairs are batch.arms, .scores and .pairs now.",
            FutureWarning,
            stacklevel=2,
        )
        return self

    def part(self, rows: list[int]) -> LabelledBatch:
        """Some of its prompts, with their labels."""
        labels = self.arms[rows], self.scores[rows], self.pairs.part(rows), self.accuracy[rows]
        return super().part(rows).labelled(*labels)

    def to(self, device: torch.device | str, **kwargs: Any) -> Self:
        """The same batch on another device; arms, scores and accuracy stay."""
        return replace(super().to(device, **kwargs), pairs=self.pairs.to(device))


@dataclass(frozen=True)
class PromptLosses:
    """The training loss of each prompt, and its parts; NaN where the prompt had no pair.

    Attributes:
        values: ``loss``, which is trained, and the parts of the objective, by name. Shape ``(B,)`` each.
        by_chance: What each of them would be for labels made at random, before training moved the policy. Shape
            ``(B,)`` each.
    """

    values: Mapping[str, Tensor]
    by_chance: Mapping[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """What is trained. Shape ``(B,)``."""
        return self.values[LOSS]

    def unknown(self) -> PromptLosses:
        """Those of a step that was skipped: NaN everywhere."""
        return replace(self, values={name: torch.full_like(value, torch.nan) for name, value in self.values.items()})
