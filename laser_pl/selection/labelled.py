"""What the reward models make of responses that people have compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from laser_pl.bandits.base import Bandit
from laser_pl.batches import Prompt
from laser_pl.data.labels import ADVICE, Compared, compared_in
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.signals.base import Signal
from laser_pl.feedback.signals.trusted import share_ordered_rightly
from laser_pl.metrics.grader import Grader
from laser_pl.run.line_cache import digest_of
from laser_pl.selection.panel import Panel


class Labels:
    """Compared responses that all reward models are asked about before training.

    Who learns from them is the signal, ``FewAnswers``, or the bandit, ``Thompson`` for its prior.

    Args:
        path: A file that ``label`` wrote, or of preferences with ``prompt``, ``chosen`` and ``rejected``; null: none.
        signal: What the bandit learns from.
        bandit: Chooses reward models.

    Attributes:
        taught: The digest of those that the arms were asked about; None if there were none.

    Raises:
        ConfigurationError: If there are labels and nobody learns from them, or the other way round.
    """

    def __init__(self, path: str | None, signal: Signal, bandit: Bandit) -> None:
        if path is not None and not signal.takes_labels and not bandit.takes_labels:
            raise ConfigurationError(
                "selection.labels is set, and neither signal nor bandit learns from labels. Set selection.signal to"
                " laser_pl.feedback.signals.FewAnswers, or the prior of laser_pl.bandits.Thompson to labels."
            )
        if path is None and bandit.takes_labels:
            raise ConfigurationError(f"selection.bandit takes its prior from labels, and there are none. {ADVICE}")
        self.path = path
        self.signal = signal
        self.bandit = bandit
        self._compared: list[Compared] = []
        self._done = False
        self.taught: str | None = None

    def read(self, prompts: Sequence[Prompt], grader: Grader) -> None:
        """Read them, if there are any.

        Args:
            prompts: All training prompts.
            grader: Says which responses are right where an answer is all that is known.

        Raises:
            ConfigurationError: If they cannot be understood, or say nothing.
        """
        if self.path is not None:
            self._compared = compared_in(self.path, prompts, grader)

    def teach(self, arms: Sequence[str], panel: Panel) -> None:
        """Ask the arms about them, and let signal and bandit learn from it; once in a run."""
        if self._compared and not self._done:
            found = examined(self._compared, arms, panel)
            self.signal.learn_labels(found.prompts, found.accuracy, found.pairs)
            self.bandit.learn_labels(found.of_arms)
            self.taught = self.digest
        self._done = True

    def go_on(self, taught: str | None) -> None:
        """Ask nobody about them: what they say was learned, or the first step is over.

        Args:
            taught: Of the run that goes on.

        Raises:
            ConfigurationError: If others were read than it was taught.
        """
        if self._compared and self.digest != taught:
            what = "other labels than" if taught else "labels, which there were none of"
            raise ConfigurationError(
                f"selection.labels holds {what} when the run began, and reward models are asked about them before the"
                " first step only. Leave it out to go on with what was learned, or start a new run."
            )
        self.taught, self._done = taught, True

    @property
    def digest(self) -> str | None:
        """A short name of what was read; None if nothing was."""
        if not self._compared:
            return None
        return digest_of([(one.prompt.prompt, one.categories, one.responses, one.better) for one in self._compared])


@dataclass(frozen=True)
class Examined:
    """How the arms ordered compared responses.

    Attributes:
        prompts: Each with one of the categories that its comparisons speak for. ``L`` of them.
        accuracy: Share of pairs ordered rightly, over all comparisons of a prompt. Shape ``(L, K)``; NaN: no opinion.
        pairs: Of each prompt. Shape ``(L,)``, int64.
        of_arms: Mean share of each arm over prompts, each counted once. Shape ``(K,)``.
    """

    prompts: list[Prompt]
    accuracy: Tensor
    pairs: Tensor
    of_arms: Tensor


def examined(compared: Sequence[Compared], arms: Sequence[str], panel: Panel) -> Examined:
    """Ask every arm about all of them, one arm after the other, so that each is loaded once.

    Args:
        compared: Some responses to some prompts, each with a better and a worse one.
        arms: Whom to ask.
        panel: Asks them.
    """
    shares = torch.stack([_shares(name, compared, panel) for name in arms], dim=-1)  # (C, K)
    of_prompt: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for place, one in enumerate(compared):
        of_prompt[one.prompt.id, one.categories].append(place)
    pairs = torch.tensor([one.pairs for one in compared])
    rows = list(of_prompt.values())
    means = torch.stack([_weighted(shares[own], pairs[own]) for own in rows])  # (prompts, K)
    expanded = [
        (replace(compared[own[0]].prompt, category=category), place)
        for place, own in enumerate(rows)
        for category in compared[own[0]].categories
    ]
    places = [place for _, place in expanded]
    counts = torch.tensor([int(pairs[own].sum()) for own in rows])
    return Examined([prompt for prompt, _ in expanded], means[places], counts[places], means.nanmean(0))


def _shares(name: str, compared: Sequence[Compared], panel: Panel) -> Tensor:
    """Of the pairs of each comparison that one arm orders rightly. Shape ``(C,)``."""
    found = torch.full((len(compared),), torch.nan, dtype=torch.float64)
    by_number: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(compared):
        by_number[len(one.responses)].append(place)
    for own in by_number.values():
        asked = [compared[place] for place in own]
        scores = panel.survey(name, [one.prompt for one in asked], [one.responses for one in asked])
        for place, one, row in zip(own, asked, scores, strict=True):
            found[place] = share_ordered_rightly(row, torch.tensor(one.better))
    return found


def _weighted(shares: Tensor, weights: Tensor) -> Tensor:
    """Means over rows, leaving out what is NaN. Shapes ``(C, K)`` and ``(C,)`` to ``(K,)``."""
    counted = weights[:, None] * shares.isfinite()
    return (counted * shares.nan_to_num(0.0)).sum(0) / counted.sum(0)
