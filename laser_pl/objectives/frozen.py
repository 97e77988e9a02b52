"""Nothing is trained, and the selection learns all the same."""

from __future__ import annotations

from torch import Tensor

from laser_pl.batches import LabelledBatch, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.objectives.dpo import Dpo


class Frozen(Objective):
    """Another objective's loss, which no weight follows: only the selection learns, for ``predict``.

    It is made of the log-probabilities that lie with the rollouts, so no response is read again.

    Args:
        of: Whose loss; null: DPO with ``model.beta`` and ``model.nll_weight``.

    Attributes:
        named: Whether anybody said whose.
    """

    trains = False

    def __init__(self, of: Objective | None = None) -> None:
        self.of, self.named = of or Dpo(), of is not None
        if not self.of.judged:
            raise ConfigurationError(
                f"A policy cannot be frozen and supervised: model.objective is Frozen, of {self.of}. Set it to one of"
                " the two."
            )
        self.needs, self.means = self.of.needs, self.of.means

    def __str__(self) -> str:
        return f"Frozen {self.of}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Its own."""
        return self.of.parts

    @property
    def takes_accuracy(self) -> bool:
        """If it does."""
        return self.of.takes_accuracy

    def uses(self, batch: LabelledBatch) -> Tensor:
        """What it uses."""
        return self.of.uses(batch)

    def labels(self, batch: LabelledBatch) -> int:
        """As many."""
        return self.of.labels(batch)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Its loss."""
        return self.of.loss(inputs)

    def of_each(self, inputs: LossInputs) -> dict[str, Tensor]:
        """Its own."""
        return self.of.of_each(inputs)

    def by_chance(self, batch: RolloutBatch) -> dict[str, Tensor]:
        """Its own."""
        return self.of.by_chance(batch)

    def informs(self, part: str) -> bool:
        """If it does."""
        return self.of.informs(part)
