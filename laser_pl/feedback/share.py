"""A share of the prompts, the same in every iteration."""

from __future__ import annotations

from collections.abc import Sequence

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.seeds import derive_seed


class Share:
    """Prompts chosen by a hash of their ids.

    Args:
        share: How many of them, in (0, 1].
        purpose: What for, so that two purposes choose independently.
        seed: Root of the choice.

    >>> "prompt 7" in Share(1.0, "trusted", seed=0)
    True
    """

    def __init__(self, share: float, purpose: str, seed: int) -> None:
        if not 0 < share <= 1:
            raise ConfigurationError(f"share must be in (0, 1], got {share}. Set selection.signal.share in the config.")
        self.share = share
        self.purpose = purpose
        self.seed = seed

    def rows(self, prompts: Sequence[Prompt]) -> list[int]:
        """Which of the prompts are chosen."""
        return [row for row, prompt in enumerate(prompts) if prompt.id in self]

    def __contains__(self, prompt_id: str) -> bool:
        """Whether this prompt is chosen."""
        return derive_seed(self.seed, self.purpose, prompt_id) < self.share * 2**63
