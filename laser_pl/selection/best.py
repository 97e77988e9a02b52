"""What was learned says of responses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Best:
    """Responses scored by what was learned, with nothing explored.

    Attributes:
        arms: The arm that scored each prompt's responses; None where nobody had an opinion. ``B`` of them.
        means: The bandit's expected reward of each arm. Shape ``(B, K)``, float64.
        scores: NaN where there is none, or the response is forbidden. Shape ``(B, n)``, float64.
        lost: Where a fault is why there is none: asked again, there may be one. Shape ``(B,)``, bool.
        stuck: Why there is nobody left to ask, if so, or a constraint cannot be checked.
    """

    arms: list[int | None]
    means: Tensor
    scores: Tensor
    lost: Tensor
    stuck: str | None = None

    def response(self, row: int) -> int | None:
        """The response to a prompt with the highest score, the first of equal ones; None if none has a score.

        >>> scores = torch.tensor([[0.5, torch.nan, 2.0, 2.0], [torch.nan] * 4])
        >>> best = Best([0, None], torch.zeros(2, 1), scores, torch.zeros(2, dtype=torch.bool))
        >>> best.response(0), best.response(1)
        (2, None)
        """
        scores = self.scores[row]
        return int(scores.nan_to_num(nan=-torch.inf).argmax()) if bool(scores.isfinite().any()) else None
