"""A share of the prompts, the same in every iteration."""

from __future__ import annotations

from collections.abc import Sequence

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.runtime.seeds import derive_seed


class Share:
    """Prompts chosen by a hash of their ids.

    Args:
        share: How many of them, in (0, 1].
        purpose: What for, so that two purposes choose independently.
        seed: Root of the choice; None for that of the run, once it is known by ``follow``.

    >>> "prompt 7" in Share(1.0, "trusted", seed=0)
    True
    """

    def __init__(self, share: float, purpose: str, seed: int | None) -> None:
        if not 0 < share <= 1:
            raise ConfigurationError(f"share must be in (0, 1], got {share}. Set selection.signal.share in the config.")
        self.share = share
        self.purpose = purpose
        self.seed = seed
        self._run_seed = 0

    def follow(self, seed: int) -> None:
        """Take the run's seed, unless one was given."""
        self._run_seed = seed

    def rows(self, prompts: Sequence[Prompt]) -> list[int]:
        """Which of the prompts are chosen."""
        return [row for row, prompt in enumerate(prompts) if prompt.id in self]

    def silence(self, prompts: Sequence[Prompt], what: str) -> str:
        """That none of the chosen prompts did what it takes, or that none is chosen."""
        chosen = len(self.rows(prompts))
        if not chosen:
            return "no prompt is in its share; raise selection.signal.share"
        return f"none of the {chosen} prompts of its share {what}"

    def __contains__(self, prompt_id: str) -> bool:
        """Whether this prompt is chosen."""
        root = self._run_seed if self.seed is None else self.seed
        return derive_seed(root, self.purpose, prompt_id) < self.share * 2**63
