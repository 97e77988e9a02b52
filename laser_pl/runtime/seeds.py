"""Randomness that follows from where we are, not from what ran before."""

from __future__ import annotations

import hashlib


def derive_seed(root: int, *position: int | str) -> int:
    """A seed for one place of a run, the same however that place was reached.

    The first 8 bytes of SHA-256 over ``repr((root, *position))``, without the highest bit.

    Args:
        root: The run's seed.
        *position: Where we are, for example ``("rollouts", iteration, chunk)``.

    Returns:
        An integer in ``[0, 2**63)``.

    >>> derive_seed(0, "rollouts", 1, 2) == derive_seed(0, "rollouts", 1, 2)
    True
    >>> derive_seed(0, "rollouts", 1, 2) == derive_seed(0, "rollouts", 2, 1)
    False
    """
    digest = hashlib.sha256(repr((root, *position)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
