"""What asking reward models has cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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


def in_words(spent: Mapping[str, float]) -> str:
    """What a reward model used up, see ``RewardModel.spent``.

    >>> in_words({"requests": 1200, "prompt_tokens": 98000, "cost": 0.0523})
    'requests 1,200, prompt tokens 98,000, cost 0.0523'
    """
    return ", ".join(f"{what.replace('_', ' ')} {much:,.6g}" if isinstance(much, float) else
                     f"{what.replace('_', ' ')} {much:,}" for what, much in spent.items() if much)  # fmt: skip
