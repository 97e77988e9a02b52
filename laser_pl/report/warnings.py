"""What somebody who watched the run would point at: each a function of its records."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from laser_pl.report.agreement_warnings import alike, opposed
from laser_pl.report.answer_warnings import misleading, without_answers
from laser_pl.report.caution import Caution
from laser_pl.report.data_warnings import too_long
from laser_pl.report.records import RunRecords
from laser_pl.report.selection_warnings import (
    collapsed,
    idle,
    never_judged,
    never_tried,
    noisy_rewards,
    nothing_observed,
    told_nothing_apart,
)
from laser_pl.report.training_warnings import displaced, flat, longer, mismatched, truncated


def warnings_of(records: RunRecords) -> list[Caution]:
    """All that apply."""
    checks: Sequence[Callable[[RunRecords], Caution | None]] = (
        too_long, collapsed, never_tried, never_judged, told_nothing_apart, idle, nothing_observed, noisy_rewards,
        alike, opposed, misleading, without_answers, displaced, longer, truncated, mismatched, flat,
    )  # fmt: skip
    return [warning for check in checks if (warning := check(records)) is not None]
