"""Written responses: their likelihood, and nobody judges."""

from __future__ import annotations

from torch import Tensor

from laser_pl.batches import LOSS, RolloutBatch
from laser_pl.objectives.base import LossInputs, LossOutputs, Objective
from laser_pl.objectives.nll import mean_nll, nll_loss
from laser_pl.objectives.pairs import mean_per_prompt


class Supervised(Objective):
    """The negative log-likelihood per token of each prompt's written response, EOS included.

    Written responses are ``data.columns.response``: nothing is sampled to train on, and no reward model is asked.
    ``model.lora.start`` begins with such an adapter. The prompt's tokens are read and not learned. Every response
    counts alike, however long it is: so does the NLL term of the training that follows.
    """

    needs = "answers"
    means = ()
    parts = ()

    def uses(self, batch: RolloutBatch) -> Tensor:
        """All. Shape ``(B, n)``, bool."""
        return batch.responses.mask.any(-1)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Nats per token, the mean over a prompt's responses."""
        nll = nll_loss(inputs.logprobs, inputs.lengths)  # (U,)
        return LossOutputs(mean_per_prompt(nll, inputs.prompt, inputs.prompts), {})

    def of_each(self, inputs: LossInputs) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def by_chance(self, batch: RolloutBatch) -> dict[str, Tensor]:
        """As if each response were as likely to be the written one as another."""
        return {LOSS: mean_nll(batch)}
