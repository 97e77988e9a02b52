"""Drawing tokens with the inverse of the distribution function: one random number per token.

``torch.multinomial`` draws a random number for every entry of the vocabulary instead.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor, TopPLogitsWarper

from laser_pl.errors import ConfigurationError
from laser_pl.messages.diverged import ADVICE

PIECE = 256
"""Entries of the vocabulary whose weights are summed as one; a whole vocabulary of 50,000 takes about 200 such sums."""


def inverse_cdf(weights: Tensor, numbers: Tensor) -> Tensor:
    r"""The first entry at which the distribution function exceeds a number, :math:`\min\{i: F(i) > u\}`.

    :math:`F` is summed in float64 over pieces of the vocabulary and then within the one piece that is hit: a running
    sum in float32 would lose entries of less than 1e-7, and one in float64 over all entries takes several times as
    long. Entries of weight zero are never drawn, whatever the rounding.

    Args:
        weights: Probabilities up to a factor per row, finite, at least one of a row positive. Shape ``(R, V)``.
        numbers: In ``[0, 1)``. Shape ``(R,)``, float64.

    Returns:
        Indices into ``V``. Shape ``(R,)``.

    >>> inverse_cdf(torch.tensor([[0.0, 1.0, 0.0, 3.0]] * 3), torch.tensor([0.0, 0.25, 0.999], dtype=torch.float64))
    tensor([1, 3, 3])
    """
    rows, size = weights.shape
    whole, tail = torch.split(weights, [size - size % PIECE, size % PIECE], dim=1)
    pieces = whole.view(rows, size // PIECE, PIECE)
    masses = torch.cat([pieces.sum(-1), tail.sum(-1, keepdim=True)], dim=1).double()  # (R, K)
    piece, left = _first_above(masses, numbers * masses.sum(-1))
    index = piece[:, None] * PIECE + torch.arange(PIECE, device=weights.device)  # (R, PIECE)
    outside = index >= size
    members = weights.gather(1, index.masked_fill(outside, 0)).masked_fill(outside, 0).double()
    member, _ = _first_above(members, left)
    return piece * PIECE + member


def _first_above(masses: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Where the running sum of masses, ``(R, K)``, first exceeds a target, and what is then left of it.

    The sum of all, as rounded here, may be the target or less; then it is the last place that has a mass.
    """
    running = _running_sum(masses)
    ends = running.masked_fill(masses == 0, -torch.inf)  # which exceeds no target
    last = ends.amax(-1)
    target = torch.minimum(target, last.nextafter(torch.zeros_like(last)))
    place = (ends > target[:, None]).byte().argmax(-1, keepdim=True)  # (R, 1)
    left = target - (running - masses).gather(1, place).squeeze(-1)
    return place.squeeze(-1), left


def _running_sum(masses: Tensor) -> Tensor:
    """Along rows. Shapes ``(R, K)``."""
    if not _refuses_cumsum(masses):
        return masses.cumsum(-1)
    size = masses.shape[-1]
    return masses @ torch.ones(size, size, dtype=masses.dtype, device=masses.device).triu()


def _refuses_cumsum(masses: Tensor) -> bool:
    """Whether torch raises: it has no deterministic ``cumsum`` of floating-point numbers on CUDA."""
    return masses.is_cuda and torch.are_deterministic_algorithms_enabled()


class Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's next token; the scores it gives back are 1 for that token and 0 for all others.

    So the loop that takes the likeliest token takes the one drawn. It has to be the only processor.

    Args:
        numbers: In ``[0, 1)``, for each token and row. Shape ``(T, R)``, float64.
        start: The length of what stands before the first token.
        temperature: Softmax temperature, > 0.
        top_p: Nucleus mass; 1 keeps the whole vocabulary.
        never: Ids that are never drawn.
    """

    def __init__(self, numbers: Tensor, start: int, temperature: float, top_p: float, never: list[int]) -> None:
        self.numbers, self.start, self.temperature = numbers, start, temperature
        self.never = torch.tensor(never, dtype=torch.long, device=numbers.device)  # once, not for every token
        self.nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these; they draw what they would have drawn."""
        self.numbers = self.numbers[:, rows]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """From logits ``(R, V)`` in float32, which are overwritten, to one 1 in each row, ``(R, V)`` in int8."""
        scores.index_fill_(1, self.never, -torch.inf)
        peak = scores.amax(-1, keepdim=True)
        if not bool(peak.isfinite().all()):
            raise ConfigurationError(
                f"The policy's logits are not finite, so there is no token to sample: training went wrong. {ADVICE}"
            )
        scores.sub_(peak).div_(self.temperature)
        if self.nucleus is not None:
            scores = self.nucleus(input_ids, scores)
        token = inverse_cdf(scores.exp_(), self.numbers[input_ids.shape[1] - self.start])
        return torch.zeros_like(scores, dtype=torch.int8).scatter_(1, token[:, None], 1)
