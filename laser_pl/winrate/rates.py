"""Win rates, raw and length-controlled, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from laser_pl.runtime.seeds import derive_seed
from laser_pl.winrate.judgement import Comparison

RESAMPLES = 2000
"""Of the bootstrap: the ends of a 95 % interval each have 50 beyond them."""
_CELLS = 2_000_000
"""Resamples times comparisons that are fitted at once, 16 MB a tensor."""
_NEWTON_STEPS = 100
PRIOR_SPREAD = 3.0
"""Of phi; at 3 a response that is longer by a standard deviation has odds of exp(3 tanh 1), 10 to 1, all else equal."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Rate:
    """How often the first side wins.

    Attributes:
        prompts: With an opinion on at least one comparison.
        wins: Comparisons that the first side won.
        ties: Those that ended equal.
        losses: Those that the second side won.
        missing: Those without an opinion, which count nowhere else.
        rate: Wins and half the ties, as a share; NaN of nothing.
        interval: Its 95 % interval; NaN for fewer than two prompts, unless one side won everything.
        controlled: What the rate would be at equal lengths; NaN where lengths always differ by the same.
        controlled_interval: Its 95 % interval.
        lengths: Mean characters of both sides' responses, also of those without an opinion.
    """

    prompts: int
    wins: int
    ties: int
    losses: int
    missing: int
    rate: float
    interval: Interval
    controlled: float
    controlled_interval: Interval
    lengths: tuple[float, float]


def rate_of(comparisons: Sequence[Comparison], seed: int) -> Rate:
    """Sum up comparisons.

    Intervals are percentiles of a bootstrap over prompts. Where one side won everything every resample is the same, and
    they are those of Clopper and Pearson, with prompts as trials.

    Args:
        comparisons: At least one.
        seed: Root of the bootstrap.
    """
    known = [(one.prompt_id, one.won, one.lengths[0] - one.lengths[1]) for one in comparisons if one.won is not None]
    won = torch.tensor([value for _, value, _ in known], dtype=torch.float64)  # (N,)
    place = {id_: number for number, id_ in enumerate(dict.fromkeys(id_ for id_, *_ in known))}
    prompt = torch.tensor([place[id_] for id_, *_ in known], dtype=torch.long)  # (N,)
    longer = torch.tensor([difference for *_, difference in known], dtype=torch.float64)  # (N,)
    nothing = math.nan, math.nan
    rate, interval, controlled, controlled_interval = math.nan, nothing, math.nan, nothing
    if known:
        regressor = length_term(longer)
        once = torch.ones(1, len(known), dtype=torch.float64)
        rate, controlled = float(won.mean()), float(controlled_rates(won, regressor, once))
        if len(place) > 1:
            resampled = [
                torch.stack([counts @ won / counts.sum(-1), controlled_rates(won, regressor, counts)])
                for counts in _resamples(prompt, len(place), seed)
            ]
            interval, controlled_interval = map(_middle, torch.cat(resampled, dim=-1))
        if rate in (0.0, 1.0):
            interval = controlled_interval = _of_all_alike(rate, len(place))
    return Rate(
        prompts=len(place),
        wins=int((won == 1).sum()),
        ties=int((won == 0.5).sum()),
        losses=int((won == 0).sum()),
        missing=len(comparisons) - len(known),
        rate=rate,
        interval=interval,
        controlled=controlled,
        controlled_interval=controlled_interval,
        lengths=(fmean(one.lengths[0] for one in comparisons), fmean(one.lengths[1] for one in comparisons)),
    )


def _resamples(prompt: Tensor, prompts: int, seed: int) -> Iterator[Tensor]:
    """How often each comparison counts, ``(R, N)`` at a time: as often as its prompt was drawn, with replacement.

    Args:
        prompt: Of each comparison. Shape ``(N,)``.
        prompts: How many there are.
        seed: Root of the draws.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "bootstrap"))
    at_once = max(1, _CELLS // max(len(prompt), prompts))
    for start in range(0, RESAMPLES, at_once):
        drawn = torch.randint(prompts, (min(at_once, RESAMPLES - start), prompts), generator=generator)
        times = torch.zeros(drawn.shape, dtype=torch.float64)
        yield times.scatter_add_(1, drawn, torch.ones_like(times))[:, prompt]


def length_term(longer: Tensor) -> Tensor:
    r"""How much longer the first response is, :math:`\tanh(\Delta / \mathrm{std}(\Delta))`.

    Section 3 of Dubois et al. 2024, "Length-Controlled AlpacaEval", arXiv 2404.04475.

    Args:
        longer: Differences of lengths. Shape ``(N,)``.

    Returns:
        In (-1, 1), 0 for equal lengths; NaN where all differences are the same and none is 0: what is due to length
        is unknown then. Shape ``(N,)``.

    >>> length_term(torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64))
    tensor([-0.7616,  0.0000,  0.7616], dtype=torch.float64)
    """
    if not longer.any():
        return torch.zeros_like(longer)
    if bool((longer == longer[0]).all()):
        return torch.full_like(longer, math.nan)
    return torch.tanh(longer / longer.std())


def controlled_rates(won: Tensor, length: Tensor, counts: Tensor) -> Tensor:
    r"""The win rate at equal lengths, by a logistic regression of wins on length.

    Of Dubois et al. 2024 (arXiv 2404.04475) without their term for a prompt's difficulty, which takes the results of
    many models to fit: :math:`P(\text{win}) = \sigma(\theta + \phi\, x)` with the ``length_term`` x, of which
    :math:`\sigma(\theta)` is what is predicted at x = 0. They penalise the squared coefficients by cross-validation;
    here :math:`\phi` alone has a normal prior around 0 with a standard deviation of 3, which keeps it finite where
    length decides everything, and is of little account otherwise. The rate of b against a is 1 minus that of a against
    b, and with all lengths equal it is the raw one.

    Args:
        won: 1, 1/2 or 0. Shape ``(N,)``, float64.
        length: x. Shape ``(N,)``, float64.
        counts: How often each comparison counts in each of R fits. Shape ``(R, N)``, float64.

    Returns:
        Shape ``(R,)``, float64; 0 or 1 where nothing or everything was won, NaN where x is.
    """
    total = counts.sum(-1)  # (R,)
    share = counts @ won / total
    result = share.round()
    if bool(length.isnan().any()):
        return torch.full_like(result, math.nan)
    open_ = ((share > 0) & (share < 1)).nonzero().squeeze(-1)
    result[open_] = torch.sigmoid(_fit(won, length, counts[open_])[:, 0])
    return result


def _fit(won: Tensor, length: Tensor, counts: Tensor) -> Tensor:
    """Theta and phi by Newton's method, whose steps are halved until they climb. Shape ``(R, 2)``."""
    penalty = PRIOR_SPREAD**-2

    def climb(at: Tensor) -> Tensor:  # the logarithm of the posterior, (R,)
        z = at[:, :1] + at[:, 1:] * length  # (R, N)
        return (counts * (won * z - torch.nn.functional.softplus(z))).sum(-1) - penalty * at[:, 1] ** 2 / 2

    at = counts.new_zeros(len(counts), 2)
    height = climb(at)
    for _ in range(_NEWTON_STEPS):
        p = torch.sigmoid(at[:, :1] + at[:, 1:] * length)  # (R, N)
        error, spread = counts * (won - p), counts * p * (1 - p)
        slope = torch.stack([error.sum(-1), error @ length - penalty * at[:, 1]], dim=-1)  # (R, 2)
        if not bool((slope.abs() > 1e-10 * counts.sum(-1, keepdim=True)).any()):
            break
        a, b, c = spread.sum(-1), spread @ length, spread @ length**2 + penalty  # of the negative Hessian
        step = torch.stack([c * slope[:, 0] - b * slope[:, 1], a * slope[:, 1] - b * slope[:, 0]], dim=-1)
        step = step / (a * c - b * b)[:, None]
        for _ in range(60):
            reached = climb(at + step)
            low = reached < height - 1e-12 * height.abs()
            if not bool(low.any()):
                break
            step = torch.where(low[:, None], step / 2, step)
        at, height = at + step, reached
    return at


def _of_all_alike(rate: float, prompts: int) -> Interval:
    """Clopper and Pearson's interval of 0 or of all of so many.

    >>> [round(end, 3) for end in _of_all_alike(1.0, 10)], [round(end, 3) for end in _of_all_alike(0.0, 3)]
    ([0.692, 1.0], [0.0, 0.708])
    """
    least = 0.025 ** (1 / prompts)
    return (least, 1.0) if rate == 1.0 else (0.0, 1.0 - least)


def _middle(values: Tensor) -> Interval:
    """Where 95 % of them lie; NaN if one is."""
    low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high
