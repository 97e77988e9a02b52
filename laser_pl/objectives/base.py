"""What every training objective offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from laser_pl.batches import LOSS, LabelledBatch, PairIndices, RolloutBatch

Needs = Literal["pairs", "scores", "answers"]
"""What an objective is given: pairs made from the chosen reward model's scores, the scores themselves, or written
responses, for which no reward model is asked."""


@dataclass(frozen=True)
class LossInputs:
    """The responses that a batch's labels use, each once, and what the policy and the reference think of them.

    Attributes:
        pairs: Chosen and rejected as rows of the following, and the prompt of each pair; none for an objective that
            takes none.
        logprobs: Log-probability of each response under the policy, nats summed over its tokens. Shape ``(U,)``.
        reference: The same under the reference, the policy at the iteration's start; 0 for written responses. Shape
            ``(U,)``.
        lengths: Tokens of each response, EOS included. Shape ``(U,)``.
        prompts: How many prompts the batch has, ``B``.
        prompt: The prompt of each response. Shape ``(U,)``, int64.
        scores: What the chosen reward model gave each response; NaN for written ones. Shape ``(U,)``, float64.
        accuracy: How often each prompt's reward model puts a right response above a wrong one, as far as it was
            measured; NaN is unknown. Shape ``(B,)``, float64.
    """

    pairs: PairIndices
    logprobs: Tensor
    reference: Tensor
    lengths: Tensor
    prompts: int
    prompt: Tensor
    scores: Tensor
    accuracy: Tensor

    @property
    def margins(self) -> Tensor:
        """How much likelier chosen is than rejected under the policy, in nats. Shape ``(M,)``."""
        return self.logprobs[self.pairs.chosen] - self.logprobs[self.pairs.rejected]

    @property
    def reference_margins(self) -> Tensor:
        """The same under the reference. Shape ``(M,)``."""
        return self.reference[self.pairs.chosen] - self.reference[self.pairs.rejected]


@dataclass(frozen=True)
class LossOutputs:
    """What an objective makes of a batch.

    Attributes:
        per_prompt: What is trained; NaN for a prompt without pairs, or without scores that differ. Shape ``(B,)``.
        parts: What it is made of, by name, unweighted. Shape ``(B,)`` each.
    """

    per_prompt: Tensor
    parts: Mapping[str, Tensor]

    def by_name(self) -> dict[str, Tensor]:
        """The whole, as ``loss``, and the parts."""
        return {LOSS: self.per_prompt, **self.parts}

    def detach(self) -> LossOutputs:
        """The same numbers without their graph."""
        return LossOutputs(self.per_prompt.detach(), {name: part.detach() for name, part in self.parts.items()})


class Objective(ABC):
    """What a policy minimises.

    An objective of your own is one class with these three methods; ``laser_pl.testing.check_objective`` holds it to
    what training and selection rely on.

    Attributes:
        needs: What it is given. How many of them a step had is logged by that name.
        means: Names of what is logged besides the loss and its parts.
        trains: Whether weights follow its loss; not those of ``Frozen``.
    """

    needs: Needs = "pairs"
    means: tuple[str, ...] = ("margin", "chosen_logprob")
    trains: bool = True

    def __str__(self) -> str:
        return type(self).__name__

    @property
    def judged(self) -> bool:
        """Whether reward models say which of the policy's own responses are good."""
        return self.needs != "answers"

    def uses(self, batch: LabelledBatch) -> Tensor:
        """Which responses its loss is made of; a prompt with none has no loss. Shape ``(B, n)``, bool."""
        used = torch.zeros_like(batch.responses.finished)
        for response in (batch.pairs.chosen, batch.pairs.rejected):
            used[batch.pairs.prompt, response] = True
        return used

    def labels(self, batch: LabelledBatch) -> int:
        """How many pairs, scores or written responses its loss is made of."""
        return len(batch.pairs) if self.needs == "pairs" else int(self.uses(batch).sum())

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that are logged and recorded."""

    @abstractmethod
    def loss(self, inputs: LossInputs) -> LossOutputs:
        """The loss of each prompt, with gradient. Prompts do not depend on one another."""

    def of_each(self, inputs: LossInputs) -> dict[str, Tensor]:
        """That of which the ``means`` are logged, of each pair or response."""
        margins = inputs.margins - inputs.reference_margins
        return {"margin": margins, "chosen_logprob": inputs.logprobs[inputs.pairs.chosen]}

    @property
    def takes_accuracy(self) -> bool:
        """Whether it asks how often the reward models are right, which the signal must measure then."""
        return False

    @abstractmethod
    def by_chance(self, batch: RolloutBatch) -> dict[str, Tensor]:
        """What the loss and each part will be where labels are made at random, before training moves the policy.

        Args:
            batch: What was sampled.

        Returns:
            ``loss`` and the parts by name. Shape ``(B,)`` each.
        """

    def informs(self, part: str) -> bool:
        """Whether ``loss`` or a part differs between good and bad labels before training moves the policy.

        A bandit can learn nothing from one that does not.
        """
        return True
