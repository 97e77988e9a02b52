"""What asking reward models has cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Costs:
    """Counts up to some moment, or between two.

    Attributes:
        forwards: Forwards of each reward model; an ensemble's are those of its members.
        missing: Labels each did not give, by kind.
        seconds: Time for loading and scoring.
    """

    forwards: dict[str, int] = field(default_factory=dict)
    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0

    def __sub__(self, earlier: Costs) -> Costs:
        """What came since; reward models without any are left out.

        >>> Costs({"a": 5, "b": 2}) - Costs({"a": 3, "b": 2})
        Costs(forwards={'a': 2}, missing={}, seconds=0.0)
        """
        missing = {
            name: dict(Counter(kinds) - Counter(earlier.missing.get(name, {}))) for name, kinds in self.missing.items()
        }
        return Costs(
            dict(Counter(self.forwards) - Counter(earlier.forwards)),
            {name: kinds for name, kinds in missing.items() if kinds},
            self.seconds - earlier.seconds,
        )
