"""What a signal may ask beyond the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from laser_pl.logprobs.logprob_model import ResponseBatch
from laser_pl.metrics.grader import Grader
from laser_pl.metrics.matchers import Exact


def _nobody(asked: Any) -> Tensor:
    raise RuntimeError("The signal asks what nobody answers here: give learn() Queries that do.")


@dataclass(frozen=True)
class Queries:
    """Questions a signal may ask after a step. Most cost forwards, so that what is not asked costs nothing.

    A signal that asks what was left out gets a RuntimeError; those that learn from the loss ask nothing.

    Attributes:
        scores: Of every reward model for some rows of the batch: rows to ``(K, len(rows), n)``. K forwards of them.
        logprobs: Of responses under the policy as it is now, in nats, ``(R,)``. One forward of them.
        start_logprobs: The same under the frozen policy that training started from.
        grader: Says how right a response is, ``model.matcher``. It costs nothing.
    """

    scores: Callable[[list[int]], Tensor] = _nobody
    logprobs: Callable[[ResponseBatch], Tensor] = _nobody
    start_logprobs: Callable[[ResponseBatch], Tensor] = _nobody
    grader: Grader = field(default_factory=Exact)
