"""Labels of an objective of scores: they, and no pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from laser_pl.batches import PairIndices, RolloutBatch
from laser_pl.data.pairs import Truncated

NO_PAIRS = PairIndices(*torch.empty(3, 0, dtype=torch.long))


def scores_to_train(batch: RolloutBatch, scores: Tensor, truncated: Truncated, allowed: Tensor) -> Tensor:
    """The scores that are trained, where constraints and the length limit have a say.

    What may be rejected but never chosen in a pair is as bad here as the worst response to its prompt.

    Args:
        batch: What was sampled.
        scores: The chosen reward models'; NaN is no opinion. Shape ``(B, n)``.
        truncated: As of ``Pairing``.
        allowed: Which responses the constraints allow. Shape ``(B, n)``, bool.

    Returns:
        Shape ``(B, n)``.
    """
    cut = ~batch.responses.finished.to(scores.device)
    if truncated == "drop":
        scores = scores.masked_fill(cut, torch.nan)
    lowest = scores.masked_fill(~scores.isfinite(), torch.inf).amin(-1, keepdim=True)  # (B, 1)
    bad = ~allowed.to(scores.device) | (cut & (truncated == "mask"))
    return torch.where(bad & scores.isfinite(), lowest, scores)


def every_pair(scores: Tensor) -> PairIndices:
    """Each response against every one that scored less.

    Args:
        scores: NaN is no opinion. Shape ``(B, n)``.

    >>> every_pair(torch.tensor([[1.0, 1.0, 0.0]])).of(0)
    [(0, 2), (1, 2)]
    """
    return PairIndices(*torch.nonzero(scores[:, :, None] > scores[:, None, :], as_tuple=True))
