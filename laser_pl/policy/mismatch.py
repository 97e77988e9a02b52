"""How far the model that sampled is from the policy that is trained."""

from __future__ import annotations

import logging
import math

from torch import Tensor

from laser_pl.batches import Responses
from laser_pl.messages.mismatch import ADVICE, BOUND
from laser_pl.runtime.process_group import ProcessGroup

log = logging.getLogger(__name__)


class Mismatch:
    """Counts, over an iteration's rollouts, the difference of log-probabilities between engine and trainer.

    Of each response ``|log p_engine - log p_trainer|``, summed over responses and divided by their tokens.
    """

    def __init__(self) -> None:
        self.nats = self.tokens = 0.0

    def see(self, responses: Responses, logprobs: Tensor) -> None:
        """Count responses; none that were sampled in this process.

        Args:
            responses: With the engine's log-probabilities, if there are any.
            logprobs: The trainer's, in nats. Shape ``(B, n)``.
        """
        if responses.logprobs is not None:
            self.nats += float((responses.logprobs - logprobs).abs().sum())
            self.tokens += float(responses.mask.sum())

    def told(self, processes: ProcessGroup) -> float | None:
        """Nats per token over all processes since the last time; None if nothing was counted. Warns of a large one."""
        found = processes.gather((self.nats, self.tokens))
        self.nats = self.tokens = 0.0
        nats, tokens = (math.fsum(values) for values in zip(*found, strict=True))
        if tokens == 0:
            return None
        apart = nats / tokens
        if apart > BOUND:
            log.warning(
                "The engine's log-probabilities of the iteration's responses differ from the policy's by %.2f nats per"
                " token. %s", apart, ADVICE,
            )  # fmt: skip
        return apart
